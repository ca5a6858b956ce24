"""Songs with stems and recordings of single sources into packs, and both into training samples."""
