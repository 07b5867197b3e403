"""DICOMweb (PS3.18): the client of STOW-RS, QIDO-RS and WADO-RS. Imports dimse and below."""
