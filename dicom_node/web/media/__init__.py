"""Films for the browser, and conversion of uploaded films."""
