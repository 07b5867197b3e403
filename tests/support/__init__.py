"""Test support: drawn films, peers, nodes and models that several tests share."""
