"""Model bundles: file format, verification, weights, runtimes and predictor, beside the shipped bundles.

Imports architectures, data and below.
"""
