"""Level diagrams: graph -> folded picture -> positions -> DOT -> file. `draw.py` is the way in."""
