"""Processes of a node: supervision, readiness, logs, lease owners, the embedded broker.

This package imports only errors.
"""
