"""Model bundles: file format, verification, weights, lookup and predictor, beside the shipped bundles.

Imports architectures, data and below.
"""
