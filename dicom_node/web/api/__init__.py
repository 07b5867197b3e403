"""REST API: routes, parameters and response models, uploads, administration, DICOMweb."""
