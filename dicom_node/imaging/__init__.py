"""DICOM images as arrays: attributes, decoding, greyscale, rendering, selection of films.

This package imports only runtime and errors.
"""
