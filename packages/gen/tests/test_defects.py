"""Faults of stable-audio-tools, by the numbers of a list that was made by running it: each is absent here.

Its language models' (2, 3) stand in test_language.py.
"""

import dataclasses
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from audio_core import config
from audio_core.weights import no_values
from audio_gen.config import DiffusionConfig
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.conditioners import ConditioningConfig, IntConfig, NumberConfig
from audio_gen.config.diffusion_autoencoder import CodeDecoderConfig, DiffusionAutoencoderConfig
from audio_gen.config.sampling import FlowSampling
from audio_gen.config.timesteps import DistributionShiftConfig
from audio_gen.config.unets import DanceDiffusionUNetConfig
from audio_gen.data import Batch
from audio_gen.diffusion import item_seeds, schedules
from audio_gen.generate import generate
from audio_gen.models.conditioners.multi import MultiConditioner
from audio_gen.models.conditioners.numbers import IntConditioner
from audio_gen.models.dance_diffusion import DanceDiffusionUNet
from audio_gen.models.diffusion import Diffusion
from audio_gen.models.diffusion_autoencoder import DiffusionAutoencoder
from audio_gen.models.dit import DiT
from audio_gen.recipe import Recipe
from audio_gen.task import learning
from torch import nn

from . import toys


def small_dit(**settings):
    return DiT(DiTConfig(io_channels=4, embed_dim=32, depth=1, num_heads=1, **settings))


def test_1_dance_diffusion_can_be_built():
    with no_values(), torch.device("meta"):
        model = DanceDiffusionUNet(DanceDiffusionUNetConfig(n_attn_layers=5))
    assert sum(parameter.numel() for parameter in model.parameters()) > 200e6


def test_4_unconditional_models_generate():
    model = toys.model(conditioned=False, objective="v", codec=False)
    assert generate(model, seed=1, steps=2, cfg=1.0, decode=False).latents.isfinite().all()


def test_5_a_diffusion_autoencoder_passes_its_code_through_its_decoder():
    """The original's `decode` calls itself."""
    backbone = DiTConfig(io_channels=1, embed_dim=32, depth=1, num_heads=1, input_concat_dim=6)
    settings = DiffusionAutoencoderConfig(
        rate=800,
        channels=1,
        samples=80,
        hop=10,
        code_channels=4,
        decoder=CodeDecoderConfig(channels=6),
        backbone=backbone,
    )
    model = DiffusionAutoencoder(settings)
    called = []
    model.decoder.register_forward_hook(lambda *_: called.append(True))
    assert model.decode(torch.randn(1, 4, 8)).shape == (1, 1, 80) and called


def test_6_the_time_may_stand_beside_every_frame():
    model = small_dit(timestep_cond_type="input_concat", timestep_embed_dim=8)
    assert model(torch.randn(2, 4, 6), torch.tensor([0.2, 0.8])).shape == (2, 4, 6)


def test_7_prepended_tokens_need_no_mask_and_narrow_heads_are_refused():
    model = small_dit(prepend_cond_dim=5)
    assert model(torch.randn(1, 4, 6), torch.tensor([0.5]), prepend_cond=torch.randn(1, 2, 5)).shape == (1, 4, 6)
    with pytest.raises(ValueError, match="32"):
        DiTConfig(io_channels=4, embed_dim=32, depth=1, num_heads=2)


def test_8_whole_numbers_may_begin_elsewhere_than_at_0():
    with pytest.raises(ValueError, match="from_min_val"):
        IntConfig(min_val=10, max_val=20)
    conditioner = IntConditioner(IntConfig(min_val=10, max_val=20, from_min_val=True), 4)
    rows = conditioner.embed([10, 20, 99], torch.device("cpu")).value[:, 0]
    assert torch.equal(rows[0], conditioner.int_embedder.weight[0]) and torch.equal(rows[1], rows[2])


def test_9_a_codec_gets_no_gradient_in_training(monkeypatch):
    class Learning(nn.Module, toys.ToyCodec):
        def __init__(self, path="default"):
            nn.Module.__init__(self)
            toys.ToyCodec.__init__(self, path)
            self.weight = nn.Parameter(torch.ones(()))

        def encode(self, audio, generator=None):
            return self.weight * toys.ToyCodec.encode(self, audio)

    monkeypatch.setattr("audio_core.codec.find", lambda name: Learning)
    recipe = config.build(Recipe, {"model": config.plain(toys.config()), "average": 0.0})
    model = Diffusion(recipe.model)
    task = learning(recipe, model, encodes=True)
    task.player.join(Accelerator(cpu=True))
    real = torch.ones(1, toys.FRAMES, dtype=torch.bool)
    batch = Batch(torch.arange(1), torch.randn(1, 1, 400), real, [{"prompt": "a", "seconds_total": 1}])
    assert not task._latents(batch).requires_grad
    task.step(batch, 0)
    assert model.codec.weight.grad is None and not model.codec.training
    assert not any("codec" in name for name in model.state_dict())


def test_10_random_seeds_fit_every_platform():
    assert all(0 <= item_seeds(-1, 1)[0] < 2**32 for _ in range(50))


def test_11_masks_are_real_where_a_model_learns_with_them():
    model = toys.model(depth=2)
    x, t = torch.randn(1, toys.WIDTH, 20), torch.tensor([0.5])
    facts, real = [{"prompt": "rain", "seconds_total": 0.2}], torch.arange(20)[None] < 12
    other = x.clone()
    other[..., 12:] += 5
    with torch.no_grad():
        outputs = [model(each, t, facts, padding=real) for each in (x, other)]
        unmasked = [model(each, t, facts) for each in (x, other)]
    torch.testing.assert_close(outputs[0][..., :12], outputs[1][..., :12], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(unmasked[0][..., :12], unmasked[1][..., :12], atol=1e-3)


def test_12_the_schedule_of_a_result_may_be_shifted_as_in_training():
    shift = DistributionShiftConfig()
    plain, shifted = (
        schedules.flow_times(FlowSampling(schedule=name, steps=4), 1024, shift) for name in ("linear", "shifted")
    )
    assert all(later > sooner for later, sooner in zip(shifted[1:-1], plain[1:-1], strict=True))


def test_13_a_missing_key_of_one_item_says_nothing_of_the_others():
    conditioning = ConditioningConfig(
        cond_dim=4, conditioners={"length": NumberConfig(max_val=10)}, default_keys={"length": "seconds_total"}
    )
    items = [{"seconds_total": 2.0}, {"length": 5.0, "seconds_total": 9.0}]
    net = MultiConditioner(conditioning)
    both = net(items)["length"].value
    torch.testing.assert_close(both[1], net(items[1:])["length"].value[0])


def test_14_generating_changes_nothing_but_its_result(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = toys.model(codec=False)

    def state():
        flags = (
            torch.backends.cudnn.benchmark,
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_float32_matmul_precision(),
        )
        return flags, torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    before = state()
    generate(model, "rain", seed=-1, steps=2, decode=False)
    assert state() == before and not list(tmp_path.iterdir()) and capsys.readouterr() == ("", "")


def test_15_nothing_heavy_or_pinned_has_to_be_installed():
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (line,) = re.findall(r"^dependencies = \[(.*)\]$", text, re.MULTILINE)
    assert {re.split("[<>=]", each)[0] for each in re.findall(r'"(.*?)"', line)} == {
        "audio-core",
        "fsspec",
        "huggingface_hub",
        "safetensors",
    }
    assert "==" not in line


def test_configurations_are_read_strictly():
    """Unknown keys pass in silence there."""
    with pytest.raises(Exception, match="unknown key samplez; did you mean samples"):
        config.build(DiffusionConfig, {**config.plain(toys.config()), "samplez": 3})
    assert dataclasses.asdict(toys.config())
