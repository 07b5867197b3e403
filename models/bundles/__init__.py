"""Model bundles: format, verification, weights and predictor, beside the shipped bundles.

Imports architectures and below.
"""
