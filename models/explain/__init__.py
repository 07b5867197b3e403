"""Explanations of a prediction: heat maps on films, weights of the words of a text, and their registry.

Imports bundles, pretrained and below.
"""
