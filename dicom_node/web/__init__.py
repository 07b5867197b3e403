"""The reading room: pages and REST API over the index. Imports delivery, dicomweb and below."""
