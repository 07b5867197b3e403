"""Command line: the composition root. Imports everything and is imported by nothing."""
