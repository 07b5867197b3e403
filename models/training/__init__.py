"""Training of bundles from recipes, up to their export. Imports evaluation and below."""
