"""Speed and memory of single blocks, next to the code of others and to plain PyTorch."""
