"""Compression: from the run of a large ACDNet to a small network."""
