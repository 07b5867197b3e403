"""Durable state of a node: received files, results, and the index (SQLite or PostgreSQL).

Imports runtime and errors.
"""
