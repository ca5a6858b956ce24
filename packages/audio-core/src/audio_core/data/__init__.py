"""Training data: manifests of audio files, packs and shards of them, and segments cut from them at any index."""
