"""What the node holds: received bytes, and the index that says what became of them."""
