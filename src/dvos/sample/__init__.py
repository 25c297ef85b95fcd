"""The embedded sample field: a procedural wheat field, from one seed to real files."""
