"""The input gate: is a picture an upright chest radiograph, and which view.

Model, network, fit, evaluation, card.
"""
