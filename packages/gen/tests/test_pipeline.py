"""Whole models against the originals, from items and the noise of a seed to the result."""

import pytest
import torch
from audio_core.testing import close
from audio_gen.config import DiffusionConfig
from audio_gen.config.conditioners import ConditioningConfig, ListConfig, NumberConfig
from audio_gen.config.guidance import Guidance
from audio_gen.config.sampling import FlowSampling, VSampling
from audio_gen.diffuse import Given, sampled
from audio_gen.models.diffusion import Diffusion

from .originals import dit_config, loaded

ITEMS = [{"genre": "jazz", "seconds_total": 4}, {"genre": "rock", "seconds_total": 30}]
NEGATIVE = [{**item, "genre": "none"} for item in ITEMS]


def model_of(case):
    settings = case.config["model"]
    diffusion = settings["diffusion"]
    config = DiffusionConfig(
        rate=8000,
        channels=4,
        samples=32,
        objective=diffusion["diffusion_objective"],
        backbone=dit_config(diffusion["config"]),
        conditioning=ConditioningConfig(
            cond_dim=32,
            conditioners={
                "genre": ListConfig(options=("rock", "jazz")),
                "seconds_total": NumberConfig(min_val=0, max_val=64),
            },
        ),
        cross_attention_cond_ids=("genre", "seconds_total"),
        global_cond_ids=("seconds_total",),
        input_concat_ids=tuple(settings.get("input_concat_ids", diffusion.get("input_concat_ids", ()))),
    )
    model = Diffusion(config).eval()
    loaded(model.backbone, case, "model.model.")
    loaded(model.conditioner, case, "conditioner.")
    return model


def no_noise(like):
    raise AssertionError("these samplers draw none")


@pytest.fixture
def v(stored_case):
    case = stored_case("pipeline_v")
    return case, model_of(case)


def of_v(v, sampler, cfg, negative=None, init=None, sigma_max=50.0):
    case, model = v
    sampling = VSampling(sampler=sampler, steps=8, sigma_min=0.3, sigma_max=sigma_max)
    noise = case.outputs["noise_seed7"]
    return sampled(model, ITEMS, noise, no_noise, sampling, Guidance(scale=cfg), negative=negative, init=init)


def test_v_model_with_guidance(v):
    close(of_v(v, "dpmpp-2m", 3.0), v[0].outputs["dpmpp2m_cfg3"], 1e-5)


def test_v_model_with_a_negative_prompt(v):
    close(of_v(v, "dpmpp-2m", 3.0, NEGATIVE), v[0].outputs["dpmpp2m_cfg3_negative"], 1e-5)


def test_v_model_by_ddim(v):
    close(of_v(v, "v-ddim", 1.0), v[0].outputs["ddim_cfg1"], 1e-5)


def test_v_model_varies_audio(v):
    init = v[0].inputs["init"].expand(2, -1, -1)
    close(of_v(v, "dpmpp-2m", 1.0, init=init, sigma_max=2.0), v[0].outputs["variation"], 1e-5)


@pytest.mark.parametrize(
    ("name", "sampler", "cfg", "given"),
    [("full", "euler", 1.0, False), ("inpaint", "euler", 2.0, True), ("inpaint_dpmpp", "dpmpp", 1.0, True)],
)
def test_inpainting_model(stored_case, name, sampler, cfg, given):
    case = stored_case("pipeline_rf_inpaint")
    known = Given(case.inputs["audio"][None], case.inputs["mask"][None]) if given else None
    result = sampled(
        model_of(case),
        ITEMS[:1],
        case.outputs["noise_seed11"],
        no_noise,
        FlowSampling(sampler=sampler, steps=6),
        Guidance(scale=cfg),
        given=known,
    )
    close(result, case.outputs[f"{name}"], 1e-5)


def test_the_given_part_matters(stored_case):
    """As the original's mask of zeros would hide it."""
    case = stored_case("pipeline_rf_inpaint")
    assert not torch.allclose(case.outputs["full"], case.outputs["inpaint_dpmpp"], atol=1e-2)
