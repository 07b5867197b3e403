"""Similar cases: index, search engines, report labeler. Imports bundles, data and below."""
