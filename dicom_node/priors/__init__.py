"""Priors, the previous films of a patient: matching and fetching. Imports dicomweb, dimse and below."""
