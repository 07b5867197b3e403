"""DICOM images as arrays: attributes, decoding, greyscale, rendering, selection of films.

Imports runtime and errors.
"""
