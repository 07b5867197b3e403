"""Foreign networks: from a file of another framework to a bundle that is served like any other, and back.

May import the bundles and what lies below them. Every network becomes an ONNX graph; only weights without a
graph of their own, and MONAI bundles, need torch.
"""
