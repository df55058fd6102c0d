"""The U-Net's layers, fast on processors: products of matrices, time first."""
