"""Audio files to files of latents and back: lengths, rates, channels, draws, batches, and files that are wrong."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audio_codec_vae import codec
from audio_core import audio, batch
from audio_core import latents as stored
from audio_core.files import InputError
from audio_core.testing import close, noise

from .toys import autoencoder


def recording(path: Path, samples: int = 900, rate: int = 800, channels: int = 2, seed: int = 0) -> Path:
    audio.write(path, 0.3 * noise(seed, samples / rate, rate, channels).numpy(), rate, "FLOAT")
    return path


@pytest.mark.parametrize(("name", "codes"), [("oobleck", False), ("lyra", False), ("dac", True), ("dac", False)])
@torch.no_grad()
def test_a_file_comes_back_as_the_model_makes_it_and_of_its_length(tmp_path, name, codes):
    model, samples = autoencoder(name), 5 * 800 + 9 * 800 + 5  # several pieces
    source = recording(tmp_path / "song.wav", samples)
    codec.encode_file(model, source, tmp_path / "song.latents", codes)
    codec.decode_file(model, tmp_path / "song.latents", tmp_path / "back.wav")
    codec.reconstruct_file(model, source, tmp_path / "same.wav")
    whole = torch.from_numpy(audio.read(source).samples)[None]
    latents = stored.load(tmp_path / "song.latents")
    assert latents.is_codes is codes and latents.samples == samples
    assert latents.facts == {"source_rate": 800, "source_channels": 2}
    if not codes:
        close(torch.from_numpy(latents.values), model.encode(whole)[0], 1e-5)
    back = torch.from_numpy(audio.read(tmp_path / "back.wav").samples)
    assert back.shape == (2, samples)
    # 16 bits round what is written
    close(back, model.decode(model.encode(whole), samples)[0].clamp(-1, 1), 1e-4)
    assert (tmp_path / "back.wav").read_bytes() == (tmp_path / "same.wav").read_bytes()


@pytest.mark.parametrize(
    ("rate", "channels", "remark"),
    [
        (800, 2, ""),
        (800, 1, "song.wav: its channel copied to all"),
        (1600, 1, "song.wav: resampled from 1600 to 800 Hz and its channel copied to all"),
        (800, 6, "5.1 (L R C LFE Ls Rs) mixed down to stereo"),
    ],
)
def test_any_rate_and_number_of_channels_is_converted_and_said(tmp_path, capsys, rate, channels, remark):
    source = recording(tmp_path / "song.wav", 1000, rate, channels)
    codec.encode_file(autoencoder("oobleck"), source, tmp_path / "song.latents")
    err = capsys.readouterr().err
    assert remark in err and bool(err) is bool(remark)
    latents = stored.load(tmp_path / "song.latents")
    assert (latents.samples, latents.channels) == (1000 * 800 // rate, 2)
    assert latents.facts == {"source_rate": rate, "source_channels": channels}


def test_latents_are_means_and_drawn_by_seed_with_noise_of_each_file_s_own(tmp_path):
    model = autoencoder("oobleck")
    audio.write(tmp_path / "a.wav", np.zeros((2, 400), np.float32), 800)
    audio.write(tmp_path / "b.wav", np.zeros((2, 400), np.float32), 800)

    def encoded(name: str, seed: int | None) -> bytes:
        codec.encode_file(model, tmp_path / name, tmp_path / "out.latents", seed=seed, force=True)
        return (tmp_path / "out.latents").read_bytes()

    assert encoded("a.wav", None) == encoded("b.wav", None)
    drawn = {encoded("a.wav", 0), encoded("a.wav", 1), encoded("b.wav", 0), encoded("a.wav", None)}
    assert len(drawn) == 4 and encoded("a.wav", 0) in drawn


def test_latents_that_are_damaged_or_of_another_model_are_refused(tmp_path):
    model, out = autoencoder("oobleck"), tmp_path / "out.wav"
    codec.encode_file(model, recording(tmp_path / "song.wav"), tmp_path / "song.latents")
    data = (tmp_path / "song.latents").read_bytes()
    for cut in (0, 7, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.latents").write_bytes(data[:cut])
        with pytest.raises(InputError, match=r"cut\.latents: is cut short or not safetensors"):
            codec.decode_file(model, tmp_path / "cut.latents", out)
    with pytest.raises(InputError, match=r"song\.latents: was encoded by model .*; use that model"):
        codec.decode_file(autoencoder("oobleck_odd"), tmp_path / "song.latents", out)
    assert not out.exists()


def test_audio_that_cannot_be_encoded_is_refused_and_leaves_nothing(tmp_path):
    broken = 0.1 * noise(0, 1.0, 800, 2).numpy()
    broken[0, 500] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken.T, 800, "FLOAT")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), 800)
    recording(tmp_path / "short.wav", 7)
    (tmp_path / "text.wav").write_text("no audio")
    for name, message in (
        ("nan", "NaN or infinity"),
        ("empty", "holds no samples"),
        ("short", "has 7 samples; this autoencoder needs at least 8"),
        ("text", "text.wav"),
    ):
        with pytest.raises(InputError, match=message):
            codec.encode_file(autoencoder("lyra"), tmp_path / f"{name}.wav", tmp_path / "out.latents")
    assert not (tmp_path / "out.latents").exists()


def test_a_batch_goes_on_where_it_was_and_refuses_what_is_not_asked_for(tmp_path, capsys):
    model = autoencoder("dac")
    for name in ("one.wav", "album/two.wav"):
        recording(tmp_path / "in" / name)

    def run(codes: bool = False, model=model, force: bool = False) -> batch.Summary:
        def work(source: Path, target: Path) -> None:
            codec.encode_file(model, source, target, codes, force=force, quiet=True)

        jobs = codec.jobs(batch.find(str(tmp_path / "in")), tmp_path / "out", codec.ENDING)
        return batch.run(jobs, work, force, True, codec.stale_latents(model, codes))

    assert run()[:2] == (2, 0)
    (tmp_path / "out/one.latents").unlink()
    assert run()[:2] == (1, 1) and (tmp_path / "out/album/two.latents").exists()
    assert len(run(codes=True).failed) == 2
    assert "one.latents: holds latents, not codes; give --force to redo it" in capsys.readouterr().err
    assert run(model=autoencoder("oobleck")).code == 2
    assert "was encoded by model" in capsys.readouterr().err
    assert run(codes=True, force=True)[:2] == (2, 0)
    places = [item.relative for item in codec.find_latents([str(tmp_path / "out")])]
    assert places == [Path("album/two.latents"), Path("one.latents")]


def test_names_of_results_are_checked_before_the_work(tmp_path):
    sources = batch.find(recording(tmp_path / "song.wav"))
    for out, ending, message in (
        ("x.wav", ".latents", "the name must end in .latents"),
        ("x.npy", ".wav", "the name must end in .wav"),
    ):
        with pytest.raises(InputError, match=message):
            codec.jobs(sources, tmp_path / out, ending)
    assert codec.jobs(sources, None, ".latents")[0].target == tmp_path / "song.latents"
    assert codec.jobs(sources, tmp_path / "x.flac", ".wav")[0].target == tmp_path / "x.flac"
    with pytest.raises(InputError, match="exists already"):
        codec.jobs(sources, tmp_path / "song.wav", ".wav")
