"""Conditioners of what was computed before, and of audio through a codec."""

import numpy as np
import pytest
import torch
from audio_core import codec as codecs
from audio_core.testing import close, refused
from audio_gen.config.conditioners import (
    CLAPAudioConfig,
    CLAPTextConfig,
    CodecSource,
    ConditioningConfig,
    NumberConfig,
    PrecomputedConfig,
    PretransformConfig,
    SourceMixConfig,
)
from audio_gen.models.conditioners import stored
from audio_gen.models.conditioners.features import clap_audio, clap_text, precomputed
from audio_gen.models.conditioners.latents import PretransformConditioner, SourceMixConditioner, with_channels
from audio_gen.models.conditioners.multi import MultiConditioner
from audio_gen.models.conditioners.stored import Features
from torch import nn

# --- features ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_features_are_projected_and_filled_up_with_zeros():
    conditioner = precomputed(PrecomputedConfig(width=3), 4)
    first, second = torch.randn(5, 3), torch.randn(3)
    tokens, mask = conditioner([first, second.numpy()])
    assert tokens.shape == (2, 5, 4) and mask.sum(1).tolist() == [5, 1]
    close(tokens[0], conditioner.proj_out(first))
    close(tokens[1, :1], conditioner.proj_out(second[None]))
    assert (tokens[1, 1:] == 0).all()
    longer = precomputed(PrecomputedConfig(width=3, length=7), 3)
    assert longer([first]).value.shape == (1, 7, 3)
    assert "at most 7 features, got 8" in refused(longer.read, torch.randn(8, 3))


@torch.no_grad()
def test_features_may_have_a_mask():
    conditioner = precomputed(PrecomputedConfig(width=3), 3)
    values, mask = torch.randn(4, 3), np.array([1, 1, 0, 1])
    tokens, found = conditioner([{"values": values, "mask": mask}])
    assert found.tolist() == [[True, True, False, True]]
    assert (tokens[0, 2] == 0).all() and torch.equal(tokens[0, 3], values[3])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.randn(2, 4), "expected features (N, 3), got (2, 4)"),
        (torch.zeros(0, 3), "expected features (N, 3), got (0, 3)"),
        (torch.randn(1, 2, 3), "expected finite numbers (N, W)"),
        (torch.full((2, 3), torch.nan), "expected finite numbers"),
        (np.array(["a"]), "expected an array"),
        (3.0, "expected an array"),
        ({"values": torch.randn(2, 3), "mask": torch.ones(3)}, "expected a mask (2,), got (3,)"),
        ({"value": torch.randn(2, 3)}, "expected values and mask, got value"),
        ("a text", "name a file that holds its features"),
    ],
)
def test_what_are_no_features_is_refused(value, message):
    assert message in refused(precomputed(PrecomputedConfig(width=3), 3).read, value)


@torch.no_grad()
def test_features_are_found_by_their_text(tmp_path):
    path = tmp_path / "texts.safetensors"
    wanted = {
        "a drum": Features(torch.randn(2, 3), torch.ones(2).bool()),
        "ü\n": Features(torch.randn(1, 3), torch.zeros(1).bool()),
    }
    stored.save(path, wanted)
    loaded = stored.load(path)
    assert [*loaded] == [*wanted]
    assert all(torch.equal(*pair) for text in wanted for pair in zip(wanted[text], loaded[text], strict=True))
    conditioner = precomputed(PrecomputedConfig(width=3, file=str(path)), 3)
    assert torch.equal(conditioner(["a drum"]).value[0], wanted["a drum"].values)
    assert "lacks the text 'a horn'" in refused(conditioner.read, "a horn")


def test_damaged_files_of_features_are_refused(tmp_path):
    path = tmp_path / "texts.safetensors"
    assert f"{path}: " in refused(stored.load, path)
    stored.save(path, {"a": Features(torch.randn(2, 3), torch.ones(2).bool())})
    data = path.read_bytes()
    for damaged in (data[:-5], data.replace(b"texts", b"tests"), b"", data.replace(b"mask.0", b"mask.1")):
        path.write_bytes(damaged)
        assert f"{path}: " in refused(stored.load, path)


@torch.no_grad()
def test_clap_s_features():
    """One embedding, or hidden states, whose padding is not zero and has a mask."""
    text = clap_text(CLAPTextConfig(), 8)
    assert text([torch.randn(512)]).value.shape == (1, 1, 8)
    assert set(text.state_dict()) == {"proj_out.weight", "proj_out.bias"}
    hidden = clap_text(CLAPTextConfig(use_text_features=True, feature_layer_ix=-2), 768)
    values, mask = torch.randn(77, 768), torch.arange(77) < 5
    tokens, found = hidden([{"values": values, "mask": mask}])
    assert torch.equal(tokens[0], values) and torch.equal(found[0], mask)
    assert "hidden states of layer -2 of CLAP's text encoder and got the text 'a'" in refused(hidden.read, "a")
    audio = clap_audio(CLAPAudioConfig(), 512)
    assert audio([torch.randn(512), torch.randn(1, 512)]).value.shape == (2, 1, 512)
    assert "at most 1 embeddings" in refused(audio.read, torch.randn(2, 512))


# --- audio -------------------------------------------------------------------------------------------------------


class Frames(nn.Module):
    """A codec of stereo audio: samples of both channels, two frames' worth, as latents."""

    sample_rate, channels, hop, width, codebooks = 800, 2, 3, 6, ()

    def encode(self, audio, generator=None):
        return audio.unflatten(2, (-1, 3)).transpose(2, 3).flatten(1, 2)


@torch.no_grad()
def test_audio_becomes_latents_of_the_model_s_codec():
    conditioners = {"reference": PretransformConfig(encoded_channels=6)}
    model = MultiConditioner(ConditioningConfig(cond_dim=6, conditioners=conditioners), Frames())
    mono, stereo = torch.randn(1, 12), torch.randn(2, 12)
    value, mask = model([{"reference": mono}, {"reference": stereo[None].numpy()}])["reference"]
    assert torch.equal(value, Frames().encode(torch.stack([mono.expand(2, 12), stereo])))
    assert mask.shape == (2, 4) and mask.all()
    assert not model.state_dict()


@torch.no_grad()
def test_latents_are_projected_along_their_channels():
    """The original projected along time."""
    conditioner = PretransformConditioner(PretransformConfig(encoded_channels=6), 4, Frames())
    audio = torch.randn(2, 12)
    expected = torch.einsum("dw,wf->df", conditioner.proj_out.weight, Frames().encode(audio[None])[0])
    close(conditioner([audio]).value[0], expected + conditioner.proj_out.bias[:, None])


def test_a_codec_is_loaded_by_its_name(monkeypatch):
    loads = []
    monkeypatch.setattr(codecs, "find", lambda name: lambda path: loads.append((name, path)) or Frames())
    config = PretransformConfig(encoded_channels=6, codec=CodecSource(name="frames", path="some/folder"))
    conditioner = PretransformConditioner(config, 6, codec=None)
    assert not loads
    for _ in range(2):
        conditioner([torch.randn(2, 12)])
    assert loads == [("frames", "some/folder")]
    assert not [*conditioner.modules()][2:]  # beside itself and its projection


def test_audio_that_does_not_fit_is_refused():
    make = lambda width, codec: PretransformConditioner(PretransformConfig(encoded_channels=width), width, codec)  # noqa: E731
    assert "audio needs a codec" in refused(make(6, None), [torch.randn(2, 12)])
    assert "encoded_channels: is 5, and the codec's latents have 6" in refused(make(5, Frames()), [torch.randn(2, 12)])
    assert "shapes (2, 12) and (2, 15)" in refused(make(6, Frames()), [torch.randn(2, 12), torch.randn(2, 15)])
    for value in (torch.randn(12), torch.zeros(2, 12, dtype=torch.int64), torch.randn(2, 2, 12), "a.wav"):
        assert "expected audio (C, T)" in refused(make(6, Frames()).read, value)


def test_channels_are_converted_as_by_the_original():
    audio = torch.randn(3, 5)
    assert torch.equal(with_channels(audio, 1), audio.mean(0, keepdim=True))
    assert torch.equal(with_channels(audio, 2), audio[:2])
    assert torch.equal(with_channels(audio[:1], 2), audio[[0, 0]])
    assert with_channels(audio, 4) is audio


# --- mixes of sources ----------------------------------------------------------------------------------------------


def mix(**settings):
    config = SourceMixConfig(encoded_channels=6, source_keys=("drums", "bass"), **settings)
    return SourceMixConditioner(config, 4, Frames())


@torch.no_grad()
def test_sources_are_projected_and_added():
    conditioner = mix()
    drums, bass = torch.randn(2, 12), torch.randn(2, 12)
    value, mask = conditioner([{"drums": drums, "bass": bass}, {"bass": bass, "voice": drums}])
    first, second = (
        head(Frames().encode(each[None])) for head, each in zip(conditioner.source_heads, (drums, bass), strict=True)
    )
    close(value, torch.cat([first + second, second]))
    assert mask.shape == (2, 4)
    latents = mix(pre_encoded=True)
    latents.load_state_dict(conditioner.state_dict())
    pair = {"drums": Frames().encode(drums[None])[0], "bass": Frames().encode(bass[None])[0]}
    close(latents([pair]).value, value[:1])


@torch.no_grad()
def test_an_item_without_sources_needs_a_vector_for_that():
    assert "has none of the sources drums, bass" in refused(mix().read, {"voice": torch.randn(2, 12)})
    conditioner = mix(allow_null_source=True, source_length=4)
    value = conditioner([{}, {"drums": torch.randn(2, 12)}]).value
    assert torch.equal(value[0], conditioner.null_source.expand(4, 4))
    assert "expected sources by their keys" in refused(conditioner.read, torch.randn(2, 12))
    assert "expected audio (C, T) of drums" in refused(conditioner.read, {"drums": 3})


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (PrecomputedConfig, {"width": 0}, "width must be at least 1"),
        (PrecomputedConfig, {"width": 1, "length": 0}, "length must be at least 1"),
        (PretransformConfig, {"encoded_channels": 0}, "encoded_channels must be at least 1"),
        (SourceMixConfig, {"encoded_channels": 1, "source_keys": ()}, "at least one"),
        (SourceMixConfig, {"encoded_channels": 1, "source_keys": ("a", "a")}, "different ones"),
        (SourceMixConfig, {"encoded_channels": 1, "source_keys": ("a",), "allow_null_source": True}, "source_length"),
        (NumberConfig, {"min_val": 2.0}, "max_val must be above min_val"),
    ],
)
def test_settings_that_cannot_be_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)
