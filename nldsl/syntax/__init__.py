"""The syntax: text -> tree (`parse.py`) and back (`print.py`)."""
