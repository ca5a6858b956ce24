"""Recordings of any number of channels for models of one, two or more: which channels go through a model together."""

from __future__ import annotations

from audio_core.audio.converting import LAYOUTS
from audio_core.files import InputError


def groups(count: int, channels: int) -> list[tuple[int, ...]]:
    """The channels of a recording of `count` in groups; each goes through a model of `channels` by itself.

    A group is as many channels as the model has, or a single one, which is copied to all of the model's, and whose
    result is the mean of theirs. Surround (5.0, 5.1, 7.1) goes through a stereo model in pairs of left and right
    loudspeakers, with the centre and the LFE alone. Other numbers may mean anything, so each channel goes alone.
    """
    if count == channels:
        return [tuple(range(count))]
    if channels > 2 and count > 1:
        raise InputError(f"audio: has {count} channels, and the model separates {channels}, or one copied to all")
    if channels == 1 or count not in LAYOUTS:
        return [(at,) for at in range(count)]
    speakers = LAYOUTS[count][1].split()
    right = {name: speakers.index(f"R{name[1:]}") for name in speakers if name[0] == "L" and name != "LFE"}
    alone = [(at,) for at, name in enumerate(speakers) if name in ("C", "LFE")]
    return [(speakers.index(name), at) for name, at in right.items()] + alone
