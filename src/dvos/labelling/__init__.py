"""A page in the browser to label, correct and train again, with help from a network."""
