"""Pretrained encoders: published encoders on disk, and the weights that a network's towers start from.

Imports architectures and below.
"""
