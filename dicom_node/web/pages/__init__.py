"""HTML pages: their routes, templates and static files."""
