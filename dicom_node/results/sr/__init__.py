"""Structured Reports (TID 1500): findings, similar cases, reader feedback, and their parser."""
