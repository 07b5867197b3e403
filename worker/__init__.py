"""Analysis of studies: the only package that imports both the DICOM node and the models."""
