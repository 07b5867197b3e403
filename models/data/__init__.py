"""Data sets: readers, splits, tables, boxes. Imports labels and below."""
