"""RLDS datasets in TFRecord files."""
