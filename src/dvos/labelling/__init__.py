"""Labelling by hand, with help: proposals from clicks, and which frames to label next."""
