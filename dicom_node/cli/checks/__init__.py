"""Checks of ``doctor``: one module for each kind, one function for each check."""
