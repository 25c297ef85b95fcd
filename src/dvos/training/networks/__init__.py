"""Each network as it is trained: what it is built from, and the weights it starts from."""
