"""Search engines for the nearest vectors, behind one interface, and their registry.

Imports processing and errors only: an engine knows no cases and no bundles.
"""
