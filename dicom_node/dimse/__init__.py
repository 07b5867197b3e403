"""DICOM over TCP (PS3.7, PS3.8): what server and client share.

Imports config, store, results, imaging and below.
"""
