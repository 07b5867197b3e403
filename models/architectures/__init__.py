"""Network architectures: one module a family, their common interface, and the registry by name.

Imports text and below; nothing of bundles, data sets or training.
"""
