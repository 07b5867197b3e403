"""Results of an analysis as DICOM objects: the report and its writers. Imports imaging and errors."""
