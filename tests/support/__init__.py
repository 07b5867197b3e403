"""Code that several tests share: drawn films, peers, nodes, tiny models."""
