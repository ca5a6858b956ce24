"""Live audio: streams, pipes, lost packets."""
