"""Image encoders: views, backbones, pooling, tokens, missing cameras."""
