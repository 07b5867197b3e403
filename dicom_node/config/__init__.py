"""Settings of a node, its data directory, and its equipment description in results.

This package imports store, results and what lies below them.
"""
