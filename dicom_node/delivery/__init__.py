"""Delivery of results: routing, sending, confirmation, withdrawal.

Imports dicomweb, dimse and below.
"""
