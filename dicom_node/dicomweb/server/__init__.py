"""Contents of QIDO-RS and WADO-RS answers; their routes are in dicom_node.web.api."""
