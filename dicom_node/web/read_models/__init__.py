"""Read models: the database queries behind each page."""
