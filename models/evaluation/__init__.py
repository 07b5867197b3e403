"""Evaluation of bundles: metrics with intervals, tables, plots, model cards.

Imports retrieval, explain and below.
"""
