"""Joins the DICOM side and the models: the only package that imports both."""
