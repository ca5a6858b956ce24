"""Whole autoencoders of every kind: what `audio_core.codec.Codec` promises, lengths, long audio, fingerprints."""

import dataclasses

import pytest
import torch
from audio_codec_vae.config import AutoencoderConfig, OobleckDecoderConfig, VAEConfig
from audio_codec_vae.models.autoencoder import Autoencoder, folded
from audio_core import latents as stored
from audio_core.files import InputError
from audio_core.testing import check_bundle, check_codec, close, noise
from audio_core.weights import no_values

from .toys import CONFIGS, autoencoder

WHOLE = {"lyra_norms", "seanet_lstm", "taae_whole"}  # whose results depend on all of the audio


def clip(samples: int, seed: int = 0) -> torch.Tensor:
    return noise(seed, samples / 800, 800, 2)[None]


@pytest.mark.parametrize("name", CONFIGS)
def test_it_keeps_the_promises_of_a_codec(name):
    codec = autoencoder(name)
    assert (codec.receptive_field is None) == (name in WHOLE)
    margins = (0, 0) if name in WHOLE else (-(-codec.receptive_field[0] // codec.hop), codec.receptive_field[1])
    frames = 7 + 2 * max(margins)
    with torch.no_grad():
        check_codec(codec, clip(frames * codec.hop + codec.hop // 2))


@pytest.mark.parametrize("name", sorted(CONFIGS.keys() - WHOLE))
@torch.no_grad()
def test_long_audio_in_chunks_equals_the_whole(name):
    """Chunks of encoding and decoding as `audio_core.latents` cuts them by itself: 5 s, and margins around them."""
    codec = autoencoder(name)
    piece = round(stored.PIECE_SECONDS * 800 / codec.hop)
    chunks = {piece + 2 * -(-codec.receptive_field[0] // codec.hop), piece + 2 * codec.receptive_field[1]}
    lengths = {1, 3 * piece + 7, *(chunk + more for chunk in chunks for more in (-1, 0, 1))}
    if name == "wavelet":  # which reflects more than a frame
        lengths = lengths - {1} | {4}
    for frames in sorted(lengths):
        samples = frames * codec.hop + (codec.hop // 3 if name.startswith("lyra") else -(codec.hop // 3))
        audio = clip(samples, frames)
        whole = codec.encode(audio)
        encoded = stored.encode(codec, audio[0], 800)
        assert encoded.frames == frames == codec.frames(samples)
        close(torch.from_numpy(encoded.values), whole[0], 1e-5)
        exact = stored.from_array(codec, whole[0].numpy(), samples)
        close(torch.from_numpy(stored.decode(codec, exact)), codec.decode(whole, samples)[0], 1e-5)


@pytest.mark.parametrize("name", ["lyra", "oobleck", "dac"])
@torch.no_grad()
def test_every_length_comes_back_exactly(name):
    codec = autoencoder(name)
    for samples in range(8, 40):
        audio = clip(samples)
        latents = codec.encode(audio)
        assert latents.shape[-1] == codec.frames(samples)
        assert codec.decode(latents, samples).shape == audio.shape == codec(audio).audio.shape


def test_lyra_s_lengths_are_those_of_the_seed():
    with no_values():
        model = Autoencoder(AutoencoderConfig())
    assert model.frames(88200) == 43 and (model.hop, model.width) == (2048, 64)
    assert [model.frames(samples) for samples in (2047, 2048, 4095, 4096)] == [0, 1, 1, 2]
    assert sum(parameter.numel() for parameter in model.parameters()) == 255_858_050
    with pytest.raises(InputError, match="has 7 samples; this autoencoder needs at least 8"):
        autoencoder("lyra").encode(clip(7))


@torch.no_grad()
def test_latents_are_means_unless_one_asks_for_samples():
    codec, audio = autoencoder("oobleck"), clip(64)
    mean = codec.encode(audio)
    assert torch.equal(mean, codec(audio).encoded.latents)
    drawn = [codec.encode(audio, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], mean)
    codec.train()
    assert not torch.equal(codec(audio).encoded.latents, codec(audio).encoded.latents)
    assert set(codec(audio).encoded.losses) == {"kl"}


def test_gradients_reach_all_that_is_not_frozen():
    config = dataclasses.replace(CONFIGS["oobleck"], frozen=("encoder",))
    model = Autoencoder(config).train()
    model(clip(64)).audio.square().mean().backward()
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())


def test_frozen_codebooks_stay_as_they_are():
    config = dataclasses.replace(CONFIGS["seanet"], frozen=("bottleneck",))
    frozen, learning = Autoencoder(config).train(), Autoencoder(CONFIGS["seanet"]).train()
    for model, moves in ((frozen, False), (learning, True)):
        before = model.bottleneck.quantizer.codebooks.clone()
        model(clip(64))
        assert torch.equal(model.bottleneck.quantizer.codebooks, before) is not moves


def test_folding_the_weight_norm_changes_neither_results_nor_the_fingerprint():
    model = autoencoder("oobleck")
    plain = folded(model)
    assert plain.config.folded and not any("parametrizations" in name for name in plain.state_dict())
    with torch.no_grad():
        close(plain(clip(64)).audio, model(clip(64)).audio, 1e-5)
    marks = plain.fingerprint(), model.fingerprint()
    assert marks[0] == marks[1] == folded(plain).fingerprint()


def test_a_fingerprint_stands_for_all_that_decoding_depends_on():
    model = autoencoder("oobleck_odd")
    mark, config = model.fingerprint(), model.config
    with torch.no_grad():
        next(model.encoder.parameters()).add_(1)
        assert model.fingerprint() == mark
        next(model.decoder.parameters()).add_(1e-3)
    assert model.fingerprint() != mark
    marks = {mark, model.fingerprint()}
    for changes in ({"soft_clip": False}, {"bottleneck": None}, {"rate": 16000}):
        torch.manual_seed(1)
        marks.add(Autoencoder(dataclasses.replace(config, **changes)).fingerprint())
    assert len(marks) == 4  # the rate changes nothing


def test_it_is_stored_as_a_bundle_and_hostile_settings_are_refused(tmp_path):
    check_bundle(autoencoder("lyra"), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 1}, "encoder: takes 2 channels, and gets 1"),
        ({"decoder": OobleckDecoderConfig(out_channels=1)}, "decoder: gives 1 channels, where 2 are expected"),
        ({"decoder": OobleckDecoderConfig()}, "decoder: takes 32 channels, and the bottleneck gives 3"),
        ({"decoder": OobleckDecoderConfig(latent_dim=3)}, "decoder: has a ratio of 512, and the encoder one of 6"),
        ({"bottleneck": VAEConfig()}, "needs two values for each latent; the encoder gives 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Autoencoder(dataclasses.replace(CONFIGS["oobleck_odd"], **changes))


@torch.no_grad()
def test_wrong_input_is_refused_in_one_line():
    codec = autoencoder("oobleck")
    latents = codec.encode(clip(64))
    for call, message in (
        (lambda: codec.encode(clip(64)[:, :1]), "has 1 channels, and the model takes 2"),
        (lambda: codec.encode(clip(64) * float("nan")), "NaN or infinity"),
        (lambda: codec.decode(latents[:, :2]), r"pass \(B, 3, F\)"),
        (lambda: codec.decode(latents, 65), "65 samples make 9 frames, not 8"),
        (lambda: autoencoder("dac").codes(clip(64), 4), "expected 1 to 3, got 4"),
    ):
        with pytest.raises(InputError, match=message):
            call()
