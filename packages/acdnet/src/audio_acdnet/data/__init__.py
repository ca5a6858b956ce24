"""Data: labelled clips in folds, and training samples that mix two of them."""
