"""The command line: the composition root, which may import everything and which nobody imports."""
