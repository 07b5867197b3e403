"""Image results: Secondary Capture, Segmentation, Parametric Map, Presentation State."""
