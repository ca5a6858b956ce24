"""The .sstr format: header, packets, entropy coding."""
