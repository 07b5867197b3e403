"""Orthanc beside the node: configuration, forwarding script, and the harness that runs a real one.

Not part of the installed package; tests and the evaluation import it from the repository.
"""
