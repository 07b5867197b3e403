"""Orthanc as the PACS beside a node: configuration, forwarding script, and a harness of the program."""
