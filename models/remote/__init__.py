"""Remote models: networks that run elsewhere, in any language, behind a small HTTP contract.

The contract is written in ``docs/remote-models.md``. May import the foreign labels, the bundles and what lies
below them; needs neither torch nor ONNX Runtime.
"""
