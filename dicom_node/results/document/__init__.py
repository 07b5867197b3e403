"""Document results: Encapsulated PDF and Key Object Selection."""
