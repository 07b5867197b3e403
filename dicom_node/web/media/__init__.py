"""Films for the browser, and films that come from it."""
