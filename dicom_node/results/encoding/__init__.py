"""Encoding that all results share: Part 10 bytes, composite modules, patient and study attributes."""
