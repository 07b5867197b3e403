"""Settings of a node: their sections and defaults, its data directory, its name on results.

Imports store, results and below.
"""
