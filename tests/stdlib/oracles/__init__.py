"""Plain PyTorch written from the equations, for the tests of the standard library to compare with."""
