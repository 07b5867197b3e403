"""Text inputs: the study text a model may read, its tokenizer, sentence vectors.

Imports labels and below.
"""
