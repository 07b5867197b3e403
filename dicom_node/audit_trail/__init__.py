"""Audit trail: who did what, as chained DICOM Audit Messages (PS3.15 A.5).

This package imports config, store, imaging and what lies below them.
"""
