"""Masks of inpainting are the original's, draw for draw, and have its statistics."""

import random

import pytest
import torch
from audio_core.config import build
from audio_core.files import InputError
from audio_gen import masks
from audio_gen.config.masks import MaskConfig

SHARES = {"segments": (1, 0, 0), "full": (0, 1, 0), "causal": (0, 0, 1)}


@pytest.fixture
def case(stored_case):
    return stored_case("inpainting")


@pytest.mark.parametrize("name", ["segments", "full", "causal", "default"])
def test_masks_are_the_original_s(case, name):
    more = {"mask_type_probabilities": SHARES[name]} if name in SHARES else {}
    settings = MaskConfig(max_mask_segments=case.config["max_mask_segments"], **more)
    drawn = masks.inpainting_masks(case.inputs["padding_mask"], settings, random.Random(case.config["seed"]))
    assert torch.equal(drawn, case.outputs[f"{name}_mask"])
    assert torch.equal(case.inputs["sequence"] * drawn, case.outputs[f"{name}_masked"])


@pytest.mark.parametrize(
    ("shares", "mean", "deviation"),
    [(SHARES["segments"], 0.419, 0.139), (SHARES["causal"], 0.506, 0.287), ((0.1, 0.8, 0.1), 0.897, 0.233)],
)
def test_masks_generate_as_much_as_the_original_s(shares, mean, deviation):
    settings = MaskConfig(mask_type_probabilities=shares)
    drawn = masks.inpainting_masks(torch.ones(2000, 256), settings, random.Random(0))
    generated = 1 - drawn.mean((1, 2))
    assert generated.mean().item() == pytest.approx(mean, abs=0.02)
    assert generated.std().item() == pytest.approx(deviation, abs=0.02)


def test_only_full_masks_have_padding_generated():
    padding = (torch.arange(32) < 20).float().expand(300, -1)
    for name, shares in SHARES.items():
        drawn = masks.inpainting_masks(padding, MaskConfig(mask_type_probabilities=shares), random.Random(1))
        assert drawn[..., 20:].eq(0 if name == "full" else 1).all(), name
        assert drawn[..., :20].eq(0).any(), name


def test_a_mask_of_samples_is_known_by_latent_frame(case):
    assert torch.equal(masks.to_frames(case.inputs["audio_mask"], 24), case.outputs["latent_mask"])


def test_the_legacy_mask_is_soft_at_its_edges(case):
    soft = masks.soft_mask(200, 40, 140, fade_in=20, fade_out=30, marination=0.2)
    assert torch.equal(soft, case.outputs["build_mask"])
    hard = masks.soft_mask(200, 40, 140)
    assert hard[40:140].eq(1).all() and hard.sum() == 100
    assert masks.soft_mask(200, 40, 140, fade_in=50, fade_out=50)[40:140].max() > 0.99


@pytest.mark.parametrize("fades", [(101, 0), (0, 101), (60, 41)])
def test_fades_that_do_not_fit_are_refused(fades):
    with pytest.raises(InputError, match=r"fade_in, fade_out: .* do not fit .* the 100 from start to end"):
        masks.soft_mask(200, 40, 140, *fades)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_mask_segments": 0}, "max_mask_segments must be 1 at least, got 0"),
        ({"mask_type_probabilities": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({"mask_type_probabilities": [-0.5, 1, 0.5]}, "from 0 on"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build(MaskConfig, settings)
