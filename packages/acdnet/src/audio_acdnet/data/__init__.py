"""Labelled clips in folds, and mixes of two of them."""
