"""The formats of audio files: extensions, containers and encodings, in one list for reading, writing and messages."""

from __future__ import annotations

# Extension -> (container, encodings with the default first).
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".wav": ("WAV", ("PCM_16", "PCM_24", "FLOAT")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
    ".ogg": ("OGG", ("VORBIS", "OPUS")),
    ".oga": ("OGG", ("VORBIS", "OPUS")),
    ".opus": ("OGG", ("OPUS",)),
    ".mp3": ("MP3", ("MPEG_LAYER_III",)),
    ".w64": ("W64", ("PCM_16", "PCM_24", "FLOAT")),
    ".rf64": ("RF64", ("PCM_16", "PCM_24", "FLOAT")),
    ".aiff": ("AIFF", ("PCM_16", "PCM_24", "FLOAT")),
    ".aif": ("AIFF", ("PCM_16", "PCM_24", "FLOAT")),
    ".aifc": ("AIFF", ("PCM_16", "PCM_24", "FLOAT")),
    ".caf": ("CAF", ("PCM_16", "PCM_24", "FLOAT")),
}
FOREIGN = {".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".ac3", ".amr"}  # audio that only ffmpeg reads
# Encodings of more than 16 bits, and those of PCM_24 and FLOAT that hold as much or come nearest.
_DEEP = {
    "PCM_24": ("PCM_24",),
    "ALAC_20": ("PCM_24",),
    "ALAC_24": ("PCM_24",),
    "PCM_32": ("FLOAT", "PCM_24"),
    "ALAC_32": ("FLOAT", "PCM_24"),
    "FLOAT": ("FLOAT", "PCM_24"),
    "DOUBLE": ("FLOAT", "PCM_24"),
}
# Which channel of an Ogg file is each one in the order of WAV, by their number; libsndfile leaves Vorbis' own order.
OGG_ORDER = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 5, 3, 4],
    7: [0, 2, 1, 6, 5, 3, 4],
    8: [0, 2, 1, 7, 5, 6, 3, 4],
}
BLOCK = 1 << 16  # samples a channel; libvorbis crashes on much longer writes


def supported() -> str:
    """The formats that are read and written without ffmpeg."""
    return ", ".join(extension[1:] for extension in FORMATS)


def encoding_like(encoding: str, extension: str) -> tuple[str, str]:
    """The encoding in which a file with this extension keeps the depth of a source's `encoding`, and what gets lost.

    Sources of up to 16 bits and lossy ones get the format's default, as does every source in a lossy format. The text
    is empty where nothing gets lost but what a lossy format leaves out.
    """
    encodings = FORMATS[extension.lower()][1]
    best = next((name for name in _DEEP.get(encoding, ()) if name in encodings), None)
    if best is None:
        return encodings[0], ""
    if best == encoding or encoding in ("ALAC_20", "ALAC_24"):
        return best, ""
    cut = ", which cuts off what is beyond full scale" if best == "PCM_24" and encoding in ("FLOAT", "DOUBLE") else ""
    return best, f"{encoding} becomes {best}{cut}"
