"""The configurations of the models, without torch."""
