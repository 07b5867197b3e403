"""DICOMweb server: contents of QIDO-RS and WADO-RS responses; their routes are in dicom_node.web.api."""
