"""Instantiation: a program's text and its hyper-parameters -> records, everything unrolled and known. `instance.py` is
the driver; the other files are its phases, each named for what it makes."""
