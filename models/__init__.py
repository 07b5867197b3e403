"""Arrays and text in, predictions out. Knows no DICOM, no network, no queue."""
