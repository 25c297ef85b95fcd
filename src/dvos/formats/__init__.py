"""Formats of other programs, each in a module: what it reads and writes."""
