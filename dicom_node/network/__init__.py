"""DICOM over the network: associations in and out."""
