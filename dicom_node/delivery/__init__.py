"""Delivery of results: routing rules, sender, confirmation, withdrawal.

Imports dicomweb, dimse and below.
"""
