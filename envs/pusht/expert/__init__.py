"""Push-T's expert: it plans pushes and follows them."""
