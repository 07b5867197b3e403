"""The web page: what came in and what became of it."""
