"""Changes of training pictures, each a function of pictures [N, 3, h, w] in [0, 1]."""
