"""Tensors for a backbone from what describes an item: texts, numbers, audio; for all kinds of models."""
