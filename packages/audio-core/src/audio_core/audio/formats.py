"""The formats of audio files: extensions, containers and encodings, in one list for reading, writing and messages."""

from __future__ import annotations

# Extension -> (container, encodings with the default first).
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".wav": ("WAV", ("PCM_16", "PCM_24", "FLOAT")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
    ".ogg": ("OGG", ("VORBIS", "OPUS")),
    ".opus": ("OGG", ("OPUS",)),
    ".mp3": ("MP3", ("MPEG_LAYER_III",)),
    ".w64": ("W64", ("PCM_16", "PCM_24", "FLOAT")),
    ".rf64": ("RF64", ("PCM_16", "PCM_24", "FLOAT")),
    ".aiff": ("AIFF", ("PCM_16", "PCM_24", "FLOAT")),
    ".caf": ("CAF", ("PCM_16", "PCM_24", "FLOAT")),
}
FOREIGN = {".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".ac3", ".amr"}  # audio that only ffmpeg reads
BLOCK = 1 << 16  # samples a channel; libvorbis crashes on much longer writes


def supported() -> str:
    return ", ".join(extension[1:] for extension in FORMATS)
