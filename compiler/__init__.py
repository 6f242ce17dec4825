"""From the level graph to PyTorch: so far the reference interpreter, which gives the language its meaning."""
