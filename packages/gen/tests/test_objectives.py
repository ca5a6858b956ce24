"""What networks learn is stable-audio-tools', and a perfect network leads back to the signal."""

import pytest
import torch
from audio_core.testing import close
from audio_gen import masks
from audio_gen.diffusion import objectives

EXACT = 1e-6


@pytest.fixture
def case(stored_case):
    return stored_case("training_targets")


@pytest.mark.parametrize(("name", "short"), [("v", "v"), ("rectified_flow", "rf"), ("rf_denoiser", "rf")])
def test_input_and_target_are_the_original_s(case, name, short):
    x, noise, t = (case.inputs[key] for key in ("x", "noise", "t"))
    objective = objectives.build(name)
    noised, target = objectives.noised(objective, x, noise, t), objective.target(x, noise, t)
    close(noised, case.outputs[f"{short}_noised"], EXACT)
    close(target, case.outputs[f"{short}_target"], EXACT)
    close(objective.denoised(noised, target, t), x, EXACT)


@pytest.mark.parametrize("name", ["v", "rectified_flow"])
def test_the_ends_are_the_signal_and_the_noise(case, name):
    x, noise = case.inputs["x"], case.inputs["noise"]
    objective = objectives.build(name)
    close(objectives.noised(objective, x, noise, torch.zeros(3)), x, EXACT)
    close(objectives.noised(objective, x, noise, torch.ones(3)), noise, EXACT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["v", "rectified_flow"])
def test_the_dtype_of_the_latents_is_kept(case, name, dtype):
    x, noise, t = case.inputs["x"].to(dtype), case.inputs["noise"].to(dtype), case.inputs["t"]
    objective = objectives.build(name)
    noised, target = objectives.noised(objective, x, noise, t), objective.target(x, noise, t)
    assert {noised.dtype, target.dtype, objective.denoised(noised, target, t).dtype} == {dtype}


def test_padding_may_be_left_out_of_the_loss(case):
    x, noise, pred, t = (case.inputs[key] for key in ("x", "noise", "pred", "t"))
    real, target = case.inputs["padding_mask"], objectives.build("v").target(x, noise, t)
    close(objectives.mse(pred, target), case.outputs["mse"], EXACT)
    close(objectives.mse(pred, target, real), case.outputs["mse_masked"], EXACT)
    assert not torch.allclose(case.outputs["mse_masked"], case.outputs["mse"], 1e-3)
    assert objectives.mse(pred, target, torch.zeros_like(real)) == 0


def test_padding_is_known_by_latent_frame(case):
    frames = masks.to_frames(case.inputs["padding_audio"], 12)
    assert torch.equal(frames.bool(), case.outputs["padding_latent"])
