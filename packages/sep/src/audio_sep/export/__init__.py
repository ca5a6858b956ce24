"""A model for other programs."""
