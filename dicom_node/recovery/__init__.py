"""Recovery of the index from the files that the node keeps: received films and results.

Imports all of the node but web, conformance and cli.
"""
