"""Films as arrays: types, preprocessing and its inverse, lungs, heat-map check.

Imports nothing but errors.
"""
