"""An autoencoder for other programs."""
