"""DICOM over TCP (PS3.7, PS3.8): the parts that server and client share.

This package imports config, store, results, imaging and what lies below them.
"""
