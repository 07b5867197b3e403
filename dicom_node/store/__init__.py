"""Durable state of a node: files, and the index in a database (SQLite or PostgreSQL).

Imports runtime and errors.
"""
