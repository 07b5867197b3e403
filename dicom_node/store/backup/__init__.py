"""Backups: copies of the index and of every file that it names, made while the node runs.

A backup is a folder that looks like a data directory. Its index is always SQLite, whatever the node's is: so
it can be checked without a database server, and restored into either.
"""
