"""Analysis without a server, for commands and notebooks; may import the node, the models and the worker.

``dicom_node`` itself names what is stable of it (docs/python.md).
"""
