"""Networks: layers, whole networks and their weights; plain keyword arguments only."""
