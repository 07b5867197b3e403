"""Labels: vocabulary and calibration of their scores. Imports processing."""
