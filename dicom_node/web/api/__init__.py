"""REST API: routes and schemas, administration, DICOMweb."""
