"""How each kind of memory is run: one file each, and the table of when."""
