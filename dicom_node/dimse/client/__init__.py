"""Requestor of associations: Storage, Verification, Query/Retrieve and Storage Commitment SCUs."""
