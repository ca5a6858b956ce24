"""Encoding and decoding in 16 bits: how near it is to float32, in Python and by the command."""

import json

import numpy as np
import pytest
import torch
from audio_codec_vae import PACKAGE, codec, folded
from audio_codec_vae.cli import main
from audio_core import audio
from audio_core import latents as stored
from audio_core.files import InputError
from audio_core.metrics import snr
from audio_core.testing import noise

from .test_files import recording
from .toys import CONFIGS, autoencoder


@pytest.fixture
def able(monkeypatch):
    """A processor with instructions for bf16; without them the results are the same, and slow."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_half_precision_is_near_float32(able, name):
    """By 33 dB for the encoder with group norm, whose latents the norms of its decoder see again: 27 dB together."""
    model = autoencoder(name)
    full, half = folded(model), folded(model, precision="bf16")
    x = noise(0, 1.0, 40 * model.hop, 2)[None]
    latents = full.encode(x)
    pairs = [(half.decode(latents), full.decode(latents))]
    if not model.codebooks:  # codes that differ give other latents
        pairs.append((half.encode(x), latents))
    for result, expected in pairs:
        assert result.dtype == torch.float32 and 30 < snr(result.flatten(), expected.flatten()) < 100
    together = snr(half(x).audio.flatten(), full(x).audio.flatten())
    assert together > 25


def test_latents_of_both_precisions_belong_to_one_model(able, tmp_path):
    model = autoencoder("oobleck")
    half = folded(model, precision="bf16")
    assert half.fingerprint() == model.fingerprint()
    song = recording(tmp_path / "song.wav")
    codec.encode_file(half, song, tmp_path / "song.latents")
    codec.decode_file(model, tmp_path / "song.latents", tmp_path / "back.wav")
    rounded, exact = (stored.encode_file(each, song).values for each in (half, model))
    assert np.array_equal(stored.load(tmp_path / "song.latents").values, rounded) and not np.array_equal(rounded, exact)


def test_the_verbs_compute_in_half_precision_where_they_are_told_to(able, tmp_path, capsys):
    PACKAGE.save(autoencoder("oobleck"), tmp_path / "toy", PACKAGE.card("toy", "A toy.", "None."))
    recording(tmp_path / "songs/one.wav")
    results = {}
    for precision in ("float32", "bf16"):
        out = tmp_path / precision
        steps = (
            ("encode", tmp_path / "songs", out / "encoded"),
            ("decode", tmp_path / "float32/encoded", out / "decoded"),
            ("reconstruct", tmp_path / "songs", out / "heard"),
            ("preencode", tmp_path / "songs", out / "items"),
        )
        for verb, source, target in steps:
            line = [
                verb,
                source,
                "-o",
                target,
                "--model",
                tmp_path / "toy",
                "--device",
                "cpu",
                "--precision",
                precision,
            ]
            assert main([*map(str, line), "--quiet"]) == 0
        results[precision] = [
            stored.load(out / "encoded/one.latents").values,
            audio.read(out / "decoded/one.wav").samples,
            audio.read(out / "heard/one.wav").samples,
            stored.load(out / "items/one.safetensors").values,
        ]
        assert json.loads((out / "items/details.json").read_text())["precision"] == precision
    for full, half in zip(results["float32"], results["bf16"], strict=True):
        assert 30 < snr(*(torch.from_numpy(each).flatten() for each in (half, full))) < 100
    line = ["preencode", "songs", "-o", "bf16/items", "--model", "toy", "--device", "cpu"]
    assert (
        main([line[0], *(str(tmp_path / word) if at in (0, 2, 4) else word for at, word in enumerate(line[1:]))]) == 2
    )
    assert "holds latents of other settings (precision)" in capsys.readouterr().err


def test_a_processor_without_half_precision_is_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    PACKAGE.save(autoencoder("oobleck"), tmp_path / "toy", PACKAGE.card("toy", "A toy.", "None."))
    recording(tmp_path / "song.wav")
    line = ["encode", tmp_path / "song.wav", "--model", tmp_path / "toy", "--device", "cpu", "--precision", "bf16"]
    assert main([*map(str, line)]) == 2
    assert "precision: cpu does not compute bf16 here; leave it at float32" in capsys.readouterr().err
    assert not (tmp_path / "song.latents").exists()
    with pytest.raises(InputError, match="cpu does not compute bf16"):
        folded(autoencoder("oobleck"), precision="bf16")


def test_a_copy_of_half_precision_is_not_folded_again(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    half = folded(autoencoder("oobleck"), precision="bf16")
    with pytest.raises(InputError, match="take the one that it was made of"):
        folded(half)
