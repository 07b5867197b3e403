"""A DICOM node that reads chest radiographs beside a PACS. Research use only, never for diagnosis."""
