"""The whole method in one command, on the sample field or on a folder of real data."""
