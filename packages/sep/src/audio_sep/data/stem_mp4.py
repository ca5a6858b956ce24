"""The five recordings in a .stem.mp4 of MUSDB18, each decoded by ffmpeg while it is read."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from audio_core import audio
from audio_core.audio import Samples
from audio_core.files import InputError

STREAMS = ("mixture", "drums", "bass", "other", "vocals")  # in the order of the file


def stream(path: Path, number: int, rate: int, channels: int) -> Iterator[Samples]:
    """Blocks (channels, any) at `rate` of recording `number`."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise InputError(f"{path}: put ffmpeg on the PATH to read it, or take MUSDB18-HQ, whose stems are .wav files")
    source = f"file:{path.resolve()}"  # never a protocol, never an option
    command = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i", source]
    command += ["-map", f"0:a:{number}", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        assert process.stdout
        try:
            recording = audio.piped(process.stdout, audio.BLOCK, str(path))
            blocks = (audio.convert_channels(block, channels, str(path)) for block in recording.blocks)
            yield from audio.resampled(blocks, recording.rate, rate, channels) if recording.rate != rate else blocks
            if process.wait():
                raise InputError(f"{path}: ends early")
        except InputError as error:
            process.kill()
            process.wait()
            log.seek(0)
            text = " ".join(log.read().decode(errors="replace").split()) or str(error)
            raise InputError(f"{path}: ffmpeg cannot read its {STREAMS[number]}: {text[-200:]}") from None
        finally:
            process.kill()  # it would wait for a reader that stopped before the end
