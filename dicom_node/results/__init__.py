"""What is said of a study, and how it is written as DICOM."""
