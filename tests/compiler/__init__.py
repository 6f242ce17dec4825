"""A package of its own, so that `compiler` means this one in tests, wherever they are started."""
