"""Processes of a node: supervision, readiness, logs, lease owners, the embedded broker.

Imports nothing but errors.
"""
