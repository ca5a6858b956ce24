"""Generation: what a result depends on, its length, and what is refused."""

import dataclasses

import pytest
import torch
from audio_core.files import InputError
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.conditioners import IntConfig
from audio_gen.config.guidance import Guidance
from audio_gen.diffuse import Given
from audio_gen.generate import chosen, generate
from audio_gen.models.conditioners.base import Condition
from audio_gen.models.diffusion import Diffusion

from . import toys


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)


def test_a_result_is_the_same_alone_and_among_others():
    model = toys.model()
    all_of = generate(model, ["rain", "a dog", "rain"], 0.4, seed=5, steps=3, cfg=2.0)
    assert all_of.seeds == [5, 6, 7] and all_of.audio.shape == (3, 1, 320)
    alone = generate(model, "a dog", 0.4, seed=6, steps=3, cfg=2.0)
    assert torch.equal(alone.audio[0], all_of.audio[1])
    assert not torch.allclose(all_of.audio[0], all_of.audio[2])  # another seed
    together = generate(model, ["rain", "a dog", "rain"], 0.4, seed=5, steps=3, cfg=2.0, batch=3)
    torch.testing.assert_close(together.audio, all_of.audio, rtol=1e-4, atol=1e-5)


def test_a_seed_of_minus_1_draws_one_that_gives_the_same_again():
    model = toys.model()
    first, second = (generate(model, "rain", 0.3, steps=2) for _ in range(2))
    assert first.seeds != second.seeds
    again = generate(model, "rain", 0.3, seed=first.seeds[0], steps=2)
    assert torch.equal(again.audio, first.audio)


def test_prompts_and_seconds_and_negatives_matter():
    model = toys.model()
    settings = {"seconds": 0.4, "seed": 1, "steps": 3, "cfg": 3.0}
    plain = generate(model, "rain", **settings).latents
    assert not torch.allclose(plain, generate(model, "wind", **settings).latents, atol=1e-3)
    assert not torch.allclose(plain, generate(model, "rain", negative="wind", **settings).latents, atol=1e-4)
    longer = generate(model, "rain", **{**settings, "seconds": 0.5})
    assert longer.latents.shape[2] == 40 and plain.shape[2] == 32


def test_a_model_without_masks_fills_its_length_and_is_cut():
    model = toys.model(masks=False)
    result = generate(model, "rain", 0.2, seed=1, steps=2)
    assert result.latents.shape[2] == toys.FRAMES and result.audio.shape[2] == 160


def test_padding_is_not_seen_by_a_model_with_masks():
    """33 frames become 34, since two of them make a position; 17 of 18 frames need a position that is half real."""
    model = toys.model()
    assert generate(model, "rain", 33 * toys.HOP / toys.RATE, seed=1, steps=2).latents.shape[2] == 34


@pytest.mark.parametrize("objective", ["v", "rectified_flow", "rf_denoiser"])
def test_unconditional_generation_works(objective):
    """stable-audio-tools' crashes (defect 4)."""
    model = toys.model(conditioned=False, objective=objective)
    result = generate(model, seconds=0.5, seed=3, steps=3, cfg=1.0)
    assert result.audio.shape == (1, 1, 400) and result.audio.isfinite().all() and result.audio.std() > 0


def test_latents_alone_need_no_codec():
    model = toys.model(codec=False)
    result = generate(model, "rain", seed=1, steps=2, decode=False)
    assert result.audio is None and result.latents.shape == (1, toys.WIDTH, toys.FRAMES)
    with pytest.raises(InputError, match="codec: this model has none, so it gives latents alone"):
        generate(model, "rain", seed=1, steps=2)


def test_another_codec_is_refused(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: lambda path: toys.ToyCodec("other"))
    with pytest.raises(InputError, match=r"is another codec .* than the model has learnt with"):
        generate(toys.model(), "rain", seed=1, steps=2)


def test_a_codec_that_is_not_installed(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(InputError, match="codec 'toy' is not installed"):
        generate(toys.model(), "rain", seed=1, steps=2)


@pytest.mark.parametrize("sampler", ["euler", "rk4", "dpmpp", "pingpong"])
@pytest.mark.parametrize("inpaints", [True, False])
def test_what_is_given_stays(sampler, inpaints):
    """A model that has not learnt to inpaint gives the kept frames themselves."""
    model = toys.model(inpaints=inpaints)
    latents = torch.randn(1, toys.WIDTH, toys.FRAMES, generator=torch.Generator().manual_seed(2))
    kept = torch.zeros(1, 1, toys.FRAMES)
    kept[..., 10:25] = 1
    result = generate(model, "rain", seed=1, steps=4, cfg=2.0, sampler=sampler, given=Given(latents, kept)).latents
    if not inpaints:
        torch.testing.assert_close(result[..., 10:25], latents[..., 10:25], rtol=0, atol=1e-4)
    else:  # it sees what is given
        other = generate(model, "rain", seed=1, steps=4, cfg=2.0, sampler=sampler, given=Given(-latents, kept)).latents
        assert not torch.allclose(result, other, atol=1e-3)
    assert not torch.allclose(result[..., :10], latents[..., :10], atol=0.1)


def test_what_is_given_stays_in_a_v_model():
    model = toys.model(objective="v")
    latents = torch.randn(1, toys.WIDTH, toys.FRAMES, generator=torch.Generator().manual_seed(2))
    kept = torch.zeros(1, 1, toys.FRAMES)
    kept[..., :20] = 1
    for sampler in ("v-ddim", "dpmpp-2m", "dpmpp-3m-sde", "v-ddim-cfgpp"):
        settings = {"seed": 1, "steps": 8, "cfg": 2.0, "sampler": sampler, "given": Given(latents, kept)}
        result = generate(model, "rain", **settings).latents
        torch.testing.assert_close(result[..., :20], latents[..., :20], rtol=0, atol=1e-2)


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seconds": 0}, "seconds: expected a length above 0, got 0"),
        ({"seconds": float("nan")}, "seconds: expected a length above 0"),
        ({"seconds": 0.6}, r"seconds: this model generates up to 0.5 s, got 0.6; `continue` goes on"),
        ({"steps": 0}, "steps must be 1 at least, got 0"),
        ({"sampler": "eular"}, "sampler: 'eular' is none of a model of objective rectified_flow; did you mean euler?"),
        ({"sampler": "v-ddim"}, "sampler: 'v-ddim' is none of a model of objective rectified_flow"),
        ({"cfg": -1.0}, "cfg must be finite and at least 0"),
        ({"cfg": 1.0, "negative": "wind"}, "negative: needs guidance; give a cfg other than 1"),
        ({"eta": 0.5}, "eta: a model of objective rectified_flow has no such setting"),
        ({"seed": -2}, "seed: expected a number from 0 on, or -1 for a random one, got -2"),
        ({"prompts": []}, "prompts: there is none"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        generate(toys.model(), **{"prompts": "rain", "seed": 1, "steps": 2, **settings})


def test_guidance_of_an_unconditional_model_is_refused():
    with pytest.raises(InputError, match="cfg: this model has no tokens that guidance could leave out"):
        generate(toys.model(conditioned=False), seed=1, cfg=3.0)


@pytest.mark.parametrize("prompt", ["", "🌧️ rain", "x" * 10_000, "line\nbreak \x00"])
def test_any_text_is_a_prompt(prompt):
    result = generate(toys.model(), prompt, 0.3, seed=1, steps=2)
    assert result.audio.isfinite().all()


def test_a_strength_is_a_level_of_noise():
    flow = toys.config(objective="rectified_flow")
    assert chosen(flow, strength=0.3)[0].sigma_max == 0.3
    v = toys.config(objective="v")
    assert chosen(v, strength=0.5)[0].sigma_max == pytest.approx(1.0)  # as much noise as signal
    assert chosen(v, strength=0.5, sampler="v-ddim")[0].sigma_max == 0.5
    assert chosen(v, strength=1.0)[0].sigma_max == 100.0
    assert chosen(v)[1] == Guidance(scale=7.0)
    for strength in (0.0, 1.1):
        with pytest.raises(InputError, match="strength: expected a number above 0 and up to 1"):
            chosen(v, strength=strength)


# --- conditions ------------------------------------------------------------------------------------------------


def test_seconds_that_are_counted_whole_are_rounded_up():
    config = toys.config()
    conditioners = {**config.conditioning.conditioners, "seconds_total": IntConfig(max_val=8)}
    conditioning = dataclasses.replace(config.conditioning, conditioners=conditioners)
    model = Diffusion(dataclasses.replace(config, conditioning=conditioning)).eval()
    conditioner, seen = model.conditioner.conditioners["seconds_total"], []
    embed = conditioner.embed
    conditioner.embed = lambda items, device: (seen.append(items), embed(items, device))[1]
    generate(model, "rain", 0.3, seed=1, steps=1)
    assert seen == [[1]]


def test_a_negative_prompt_keeps_all_else_of_the_item():
    settings = {"seconds": 0.4, "seed": 1, "steps": 2, "cfg": 3.0}
    item, negative = {"prompt": "rain", "seconds_total": 3.0}, {"prompt": "wind", "seconds_total": 3.0}
    model = toys.model()
    one, other = (generate(model, item, negative=each, **settings).latents for each in ("wind", negative))
    assert torch.equal(one, other)


def test_the_padding_of_a_negative_prompt_is_zero_in_every_model():
    """As the original has it; features of CLAP have other values there."""
    model = toys.model(masks=False)
    conditioner, backbone, seen = model.conditioner.conditioners["prompt"], model.backbone.forward, []
    embed = conditioner.embed

    def with_padding(items, device):
        value, mask = embed(items, device)
        return Condition(value + 5.0 * ~mask[..., None], mask)

    def watched(x, t, **conditions):
        seen.append(conditions["cross_attn_cond"])
        return backbone(x, t, **conditions)

    conditioner.embed, model.backbone.forward = with_padding, watched
    generate(model, "rain", seed=1, steps=1, cfg=2.0, negative="wind")
    conditioned, unlike = seen[0]
    assert (conditioned[len("rain") + 1 :] == 5).all() and (unlike[len("wind") + 1 :] == 0).all()


def test_rescaling_needs_channels():
    backbone = DiTConfig(io_channels=1, embed_dim=32, depth=1, num_heads=1)
    config = dataclasses.replace(toys.config(conditioned=False), codec=None, hop=1, backbone=backbone)
    with pytest.raises(InputError, match="rescale: compares the channels of a frame, and this model has one"):
        chosen(config, rescale=0.5)
