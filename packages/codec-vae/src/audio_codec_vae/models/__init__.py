"""The networks: encoders, decoders, what lies between, and the whole autoencoder."""
