"""The encoder in integers: close to the real one, and no sum overflows."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from audio_core import audio
from audio_core.files import InputError
from audio_core.testing import noise
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.export import calibrate, chain
from audio_soundstream.export.quantise import IntegerModel, quantise, recorded
from audio_soundstream.model import SoundStream, TinyStream


def agreement(made: IntegerModel, model, x: torch.Tensor) -> list[float]:
    """Share of equal codes, layer by layer."""
    return (made.codes(x) == model.codes(x)).float().mean((0, 2)).tolist()


@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny", "ts_medium"])
def test_sixteen_bits_between_layers_keep_most_codes_and_eight_do_not(stored, name):
    _, model = stored(name)
    sounds = calibrate.sounds(model.config)
    x = torch.cat(sounds[::5])
    wide, narrow = (agreement(quantise(model, sounds, bits), model, x) for bits in (16, 8))
    assert wide[0] > 0.93 and min(wide) > 0.8
    assert sum(narrow) < sum(wide) - 0.1 * len(wide)


@torch.no_grad()
@pytest.mark.parametrize("settings", [{}, {"causal": True, "activation": "hardswish"}], ids=["original", "hardswish"])
def test_latents_are_close_to_the_real_ones(settings):
    model = TinyStream(TinyStreamConfig(8, 32, layers=2, size=16, **settings)).eval()
    torch.nn.init.normal_(model.quantizer.codebooks, std=0.01)
    sounds = calibrate.sounds(model.config)
    made = quantise(model, sounds)
    x = torch.cat(sounds[3:6])
    wanted, found = model.encode(x).double(), made.latents(recorded(x))
    scaled = found * (wanted * found).sum() / found.square().sum()
    exponent = np.log2(float(found.square().sum() / (wanted * found).sum()))
    assert abs(exponent - round(exponent)) < 0.01  # a power of two
    assert (wanted - scaled).square().sum() < 10 ** (-28 / 10) * wanted.square().sum()


@torch.no_grad()
@pytest.mark.parametrize(
    "model",
    [
        SoundStream(SoundStreamConfig(16, 32, layers=2, size=16)),
        TinyStream(TinyStreamConfig(8, 32, layers=2, size=16, activation="hardswish")),
    ],
    ids=["soundstream", "tinystream"],
)
def test_no_sum_can_overflow(model):
    for parameter in model.encoder.parameters():  # as unlike each other as they can be
        parameter.mul_(10 ** torch.empty(len(parameter), *[1] * (parameter.ndim - 1)).uniform_(-3, 1))
    torch.nn.init.normal_(model.quantizer.codebooks, std=10)
    model.quantizer.codebooks[1] *= 1e-5
    made = quantise(model, calibrate.sounds(model.config)[:4])
    largest = 32768
    for layer in made.layers:
        products = np.abs(layer.weight.astype(np.int64)).sum((1, 2)) * largest
        rounding = 1 << layer.shift.astype(np.int64) >> 1
        assert (products + np.abs(layer.bias.astype(np.int64)) + rounding).max() < 2**31
        assert layer.shift.min() >= 0 and layer.shift.max() <= 30 and 0 <= layer.skip_shift <= 30
        largest = layer.limit
    for book in made.books:
        assert np.abs(book.entries.astype(np.int64)).sum(1).max() * largest + 2 * book.halves.max() < 2**31
        assert book.shift.min() >= 0 and 127 * 2**book.coarsest + largest < 2**31


def test_silence_and_layers_without_weight_are_no_trouble():
    model = TinyStream(TinyStreamConfig(4, 8, layers=2, size=4)).eval()
    torch.nn.init.normal_(model.quantizer.codebooks)
    with torch.no_grad():
        model.encoder.block1[0].layers[1].weight.zero_()
    made = quantise(model, [torch.zeros(1, 1, 5000)])
    assert made.codes(0.5 * noise(0, 0.2)[None]).shape == (1, 2, 13)
    model.quantizer.codebooks[0].zero_()
    assert not quantise(model, [noise()[None]]).codes(noise()[None])[:, 0].any()  # of equal ones the first


@torch.no_grad()
def test_entries_for_soft_sounds_are_as_exact_as_those_for_loud_ones():
    model = TinyStream(TinyStreamConfig(4, 8, layers=1, size=256)).eval()
    x = noise()[None] * torch.logspace(-2, 0, 16000)
    latents = model.encode(x)
    model.quantizer.load_codebooks(latents[..., :256].transpose(1, 2)[:, torch.arange(256) % latents.shape[-1]])
    found = quantise(model, [x]).codes(x)
    assert (found == model.codes(x)).float().mean() > 0.9


def test_a_model_that_cannot_be_quantised_is_refused():
    model = TinyStream(TinyStreamConfig(4, 8, layers=2, size=4))
    with pytest.raises(ValueError, match="at least one sound"):
        quantise(model, [])
    with torch.no_grad():
        model.encoder.block3[3].weight[0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        quantise(model, [noise()[None]])


def test_a_chain_names_what_no_code_is_made_for():
    model = TinyStream(TinyStreamConfig(4, 8, layers=2, size=4))
    model.encoder.activation = torch.nn.Sigmoid()
    with pytest.raises(ValueError, match="activation: no code is made for Sigmoid"):
        chain.layers(model)


def test_the_chain_is_the_encoder():
    model = SoundStream(SoundStreamConfig(4, 8, layers=1, size=4))
    found = chain.layers(model)
    assert sum(layer.weight.size + layer.bias.size for layer in found) == sum(
        p.numel() for p in model.encoder.parameters()
    )
    assert [layer.skip for layer in found[:9]] == [None, None, 1, None, 3, None, 5, None, None]
    assert [layer.activation for layer in found[:9]] == ["none", *["elu", "none"] * 3, "elu", "elu"]
    assert dataclasses.replace(found[0], name="x").span == 7


def test_sounds_to_calibrate_with_are_the_same_every_time_and_of_all_levels():
    config = TinyStreamConfig()
    sounds, again = calibrate.sounds(config), calibrate.sounds(config)
    assert len(sounds) == calibrate.COUNT and all(map(torch.equal, sounds, again))
    peaks = [float(sound.abs().max()) for sound in sounds]
    assert max(peaks) == 1.0 and min(peaks) < 0.02
    assert all(sound.isfinite().all() for sound in calibrate.sounds(SoundStreamConfig()))


def test_recordings_are_heard_in_pieces_spread_over_each(tmp_path):
    time = np.arange(4 * 8000) / 8000
    audio.write(tmp_path / "a.wav", np.stack([time / 4, time / 4]).astype(np.float32), 8000)
    audio.write(tmp_path / "b.wav", np.full((1, 400), 0.25, np.float32), 16000)
    found = calibrate.recordings(TinyStreamConfig(), [str(tmp_path)])
    assert {sound.shape for sound in found} == {(1, 1, 16000), (1, 1, 400)}
    means = sorted(float(sound.mean()) for sound in found if sound.shape[-1] == 16000)
    assert len(means) == calibrate.COUNT // 2 and means[0] < 0.2 and means[-1] > 0.8
    soundfile.write(tmp_path / "b.wav", np.zeros((0, 1), np.float32), 16000)
    with pytest.raises(InputError, match=r"b\.wav: holds no samples"):
        calibrate.recordings(TinyStreamConfig(), [str(tmp_path / "b.wav")])
