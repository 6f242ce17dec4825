"""Bodies as FX graphs of aten operators: cut, differentiated, and rewritten until little is left to do at run time."""
