"""Retrieval of similar cases: study embeddings, the case index, search, and the report labeler.

Imports bundles, data and below.
"""
