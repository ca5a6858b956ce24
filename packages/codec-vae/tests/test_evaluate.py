"""Measures are what their names say, of what the model makes; statistics of latents; the page, its JSON and text."""

import json
import math

import numpy as np
import pytest
import torch
from audio_codec_vae.evaluate import evaluate
from audio_codec_vae.measures import coherence, coherence_difference
from audio_core import audio, metrics
from audio_core.files import InputError
from audio_core.loss.spectral import MelLoss
from audio_core.nn.quantize import usage
from audio_core.report import Report
from audio_core.testing import noise, tone

from .test_files import recording
from .toys import autoencoder

STEREO = ("si_sdr", "si_sdr_left", "si_sdr_right", "si_sdr_mid", "si_sdr_side", "coherence", "stft", "mel", "phase")


@pytest.fixture
def data(tmp_path) -> str:
    for at in range(3):
        recording(tmp_path / f"data/{at}.wav", 2400, seed=at)
    return str(tmp_path / "data")


@torch.no_grad()
def test_files_are_measured_on_what_comes_back_of_them(data):
    model = autoencoder("oobleck")
    result = evaluate(model, [data], quiet=True)
    assert tuple(result.values) == STEREO and result.names == ["0.wav", "1.wav", "2.wav"]
    wanted = torch.from_numpy(audio.read(f"{data}/1.wav").samples)
    latents = model.encode(wanted[None])
    made = model.decode(latents)[0].clamp(-1, 1)
    sides = metrics.si_sdr(made, wanted)
    mid, side = (metrics.si_sdr(made[0] + sign * made[1], wanted[0] + sign * wanted[1]) for sign in (1, -1))
    measured = {name: values[1] for name, values in result.values.items()}
    expected = (sides.mean(), *sides, mid, side)
    for name, value in zip(STEREO[:5], expected, strict=True):
        assert measured[name] == pytest.approx(float(value), abs=1e-3), name
    assert measured["coherence"] == pytest.approx(float(coherence_difference(made, wanted)), abs=1e-5)
    assert measured["mel"] == pytest.approx(float(MelLoss(800)(made[None], wanted[None])), abs=1e-4)
    assert result.mean("mel") == pytest.approx(sum(result.values["mel"]) / 3)


@pytest.mark.parametrize("name", ["oobleck", "lyra"])
@torch.no_grad()
def test_the_rate_of_gaussian_latents_is_their_divergence_in_bits(data, name):
    """Of either convention, from mean m and deviation s of each latent: (m² + s² - 1) / 2 - ln s nats."""
    model = autoencoder(name)
    statistics = evaluate(model, [f"{data}/0.wav"], quiet=True).latents
    wave = torch.from_numpy(audio.read(f"{data}/0.wav").samples)[None]
    mean, deviation, _ = model.bottleneck.distribution(model.encoder(wave))
    nats = ((mean.square() + deviation.square() - 1) / 2 - deviation.log()).sum(1).mean()
    assert statistics.kl_rate == pytest.approx(float(nats) / math.log(2) * 800 / model.hop, rel=1e-4)
    assert statistics.mean == pytest.approx(float(mean.mean()), abs=1e-5)
    assert statistics.deviation == pytest.approx(float(mean.std(correction=0)), rel=1e-4)
    assert statistics.deviations == pytest.approx(mean[0].std(1, correction=0).tolist(), rel=1e-4)


@torch.no_grad()
def test_discrete_latents_have_a_bitrate_and_used_codes(data):
    model = autoencoder("dac")
    result = evaluate(model, [f"{data}/0.wav"], quiet=True)
    codes = model.codes(torch.from_numpy(audio.read(f"{data}/0.wav").samples)[None])
    entropy, used = usage(codes, 8)
    assert result.kbps == 3 * 3 * 100 / 1000  # 3 codebooks of 3 bits, 100 times a second
    assert result.latents.entropy == pytest.approx(entropy.tolist())
    assert result.latents.used == pytest.approx(used.tolist())
    assert result.latents.kl_rate is None
    facts = result.plain()
    assert facts["kbps"] == 0.9 and facts["entropy_kbps"] == pytest.approx(sum(result.latents.entropy) / 10, abs=1e-3)


def test_coherence_tells_alike_from_unlike_channels():
    one, other = noise(1, 1.0, 8000)[0], noise(2, 1.0, 8000)[0]
    same, apart, silent = (torch.stack([one, right]) for right in (-0.5 * one, other, 0 * one))
    assert float(coherence(same).min()) > 0.99 and float(coherence(apart).mean()) < 0.4
    assert float(coherence(silent).max()) == 0
    assert float(coherence_difference(same, same)) == 0
    assert float(coherence_difference(apart, same)) > 0.6


def test_silence_has_no_ratios_and_spoils_no_means(data):
    audio.write(f"{data}/silent.wav", np.zeros((2, 2400), np.float32), 800)
    result = evaluate(autoencoder("oobleck"), [data], quiet=True)
    assert math.isnan(result.values["si_sdr"][3]) and math.isfinite(result.mean("si_sdr"))
    json.dumps(result.plain(), allow_nan=False)


@torch.no_grad()
def test_a_voice_is_measured_by_pesq_when_asked_at_the_rate_of_pesq(tmp_path):
    model, source = autoencoder("oobleck"), tmp_path / "voice.wav"
    sound = torch.sin(20 * torch.arange(2400) / 800) * (tone(90, 3.0, 800) + 0.1 * noise(0, 3.0, 800))
    audio.write(source, 0.3 * sound.numpy(), 800)
    wanted = torch.from_numpy(audio.read(source, channels=2).samples)
    made = model.decode(model.encode(wanted[None]))[0].clamp(-1, 1)
    both = [torch.from_numpy(audio.resample(each.mean(0, keepdim=True).numpy(), 800, 16000)) for each in (made, wanted)]
    result = evaluate(model, [str(source)], voice=True, quiet=True)
    assert tuple(result.values) == (*STEREO, "pesq")
    assert result.values["pesq"] == pytest.approx(metrics.pesq(*both, 16000).tolist(), abs=1e-3)


def test_files_that_cannot_be_measured_are_named_and_counted(data, capsys):
    recording_short = f"{data}/short.wav"
    audio.write(recording_short, np.ones((2, 99), np.float32), 800)
    result = evaluate(autoencoder("oobleck"), [data], quiet=True)
    assert (result.unreadable, len(result.names)) == (1, 3)
    assert "short.wav: 99 samples at 800 Hz are too few" in capsys.readouterr().err
    with pytest.raises(InputError, match="none of the files could be measured"):
        evaluate(autoencoder("oobleck"), [recording_short], quiet=True)
    assert evaluate(autoencoder("oobleck"), [data], files=2, quiet=True).names == ["0.wav", "2.wav"]


@pytest.mark.parametrize(("name", "part"), [("oobleck", "KL rate"), ("dac", "entropy, bits")])
def test_the_page_has_numbers_latents_and_players(data, tmp_path, name, part):
    result = evaluate(autoencoder(name), [data], listen=2, quiet=True)
    page, folder = Report("codec"), tmp_path / "report"
    folder.mkdir()
    result.page(page, folder)
    html = page.html()
    assert html.count("<audio") == 4 and part in html and "side, dB" in html and "1.wav" in html
    assert not list(folder.iterdir())
    assert part.split(",")[0] in result.table() and "means over 3 files" in result.table()
