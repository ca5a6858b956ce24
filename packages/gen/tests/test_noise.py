"""The same seed gives the same item: in any batch, of any length, on any device, and with any sampler."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from audio_core.testing import close, refused
from audio_gen.config.sampling import FlowSampling, VSampling
from audio_gen.diffusion import ItemNoise, item_seeds, sample

from .diffusion_toys import model_of

four_levels = partial(VSampling, steps=4, sigma_min=0.3, sigma_max=20)
SETTINGS = [
    *(FlowSampling(sampler=name, steps=4) for name in ("euler", "rk4", "dpmpp", "pingpong")),
    *(four_levels(sampler=name) for name in ("dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m-sde", "k-heun", "k-lms", "k-dpm-2")),
    *(four_levels(sampler=name) for name in ("k-dpmpp-2s-ancestral", "k-dpm-fast", "v-ddim", "v-ddim-cfgpp")),
    four_levels(sampler="v-ddim", eta=1.0),
]


TOLERANCE = {torch.float64: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}  # of what the network is given


def named(settings):
    return settings.sampler + ("+noise" if getattr(settings, "eta", 0) else "")


def generated(seeds, settings, frames=10, dtype=torch.float32):
    fresh = ItemNoise(seeds)
    return sample(model_of(settings), fresh(torch.empty(len(seeds), 3, frames, dtype=dtype)), settings, fresh)


def test_noise_is_standard_normal_and_new_in_each_draw():
    noise, like = ItemNoise([1, 2]), torch.empty(2, 8, 5000)
    first, second = noise(like), noise(like)
    for values in (first, second, (first + second) / 2**0.5, (first[0] - second[1]) / 2**0.5):
        assert values.mean().abs() < 0.02 and abs(values.std() - 1) < 0.02
    assert torch.equal(ItemNoise([1, 2])(like), first) and not torch.equal(first[0], first[1])
    assert first.abs().max() > 3.5


def test_noise_is_the_same_in_every_release():
    """What a seed gives may not change: a result that somebody has noted the seed of would be lost."""
    noise = ItemNoise([7])
    expected = [[1.5219693, -1.1441058, 1.1501616], [1.876122, -0.5396083, -2.286782]]
    values = torch.stack([noise(torch.empty(1, 1, 3))[0, 0] for _ in range(2)])
    torch.testing.assert_close(values, torch.tensor(expected), rtol=0, atol=1e-6)


def test_an_item_s_noise_does_not_depend_on_its_batch():
    together = ItemNoise([5, 6, 7])
    for _ in range(3):
        first = together(torch.empty(3, 4, 33))
    alone, longer = ItemNoise([6]), ItemNoise([9, 6])
    for _ in range(3):
        single, padded = alone(torch.empty(1, 4, 33)), longer(torch.empty(2, 4, 70))
    assert torch.equal(first[1], single[0]) and torch.equal(padded[1, :, :33], single[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_noise_is_the_same_in_every_dtype(dtype):
    exact = ItemNoise([1])(torch.empty(1, 2, 20))
    other = ItemNoise([1])(torch.empty(1, 2, 20, dtype=dtype))
    assert other.dtype == dtype and torch.equal(other, exact.to(dtype))


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
def test_an_item_is_generated_alike_alone_and_in_a_batch(settings):
    batch = generated([3, 4, 5], settings)
    assert torch.equal(generated([4], settings)[0], batch[1])
    assert torch.equal(generated([5, 4], settings)[0], batch[2])
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_latents_may_have_any_dtype(settings, dtype):
    result = generated([3, 4], settings, dtype=dtype)
    assert result.dtype == dtype
    """Half precision rounds what the network is given, and not the state between steps."""
    close(result, generated([3, 4], settings), TOLERANCE[dtype])


@pytest.mark.parametrize("settings", SETTINGS, ids=named)
def test_the_network_is_given_its_dtype_and_exact_times_on_its_device(settings):
    model, seen = model_of(settings), set()

    def watched(x, t):
        seen.add((x.dtype, t.dtype, t.shape, t.device.type))
        return model(x, t)

    like = torch.empty(2, 3, 10, dtype=torch.bfloat16, device="meta")  # where any tensor of the CPU is an error
    fresh = ItemNoise([1, 2])
    result = sample(watched, fresh(like), settings, fresh, init=torch.zeros(2, 3, 10))
    assert result.dtype == torch.bfloat16 and result.device.type == "meta"
    assert seen == {(torch.bfloat16, torch.float32, (2,), "meta")}


@pytest.mark.parametrize("settings", [SETTINGS[3], SETTINGS[6]], ids=named)
def test_sampling_leaves_the_global_generators_alone(settings):
    """stable-audio-tools seeds PyTorch's, and its samplers draw from it."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    generated(item_seeds(-1, 2), settings)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_an_error_of_the_callback_ends_the_sampling():
    seen = []

    def stop(step):
        seen.append(step.index)
        if step.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(model_of(SETTINGS[0]), torch.zeros(1, 1, 4), SETTINGS[0], ItemNoise([0]), callback=stop)
    assert seen == [0, 1]


def test_minus_1_draws_a_seed_and_says_which(monkeypatch):
    """stable-audio-tools draws it by a function that overflows on Windows, and prints it at most."""
    assert item_seeds(7, 3) == [7, 8, 9]
    torch.manual_seed(0)
    first = item_seeds(-1, 2)
    torch.manual_seed(0)
    second = item_seeds(-1, 2)
    assert first != second, "the drawn seed follows a generator"
    assert all(0 <= seeds[0] < 2**32 and seeds[1] == seeds[0] + 1 for seeds in (first, second))
    monkeypatch.setattr("secrets.randbelow", lambda limit: limit - 1)
    (largest,) = item_seeds(-1, 1)
    assert largest == 2**32 - 1 and ItemNoise([largest])(torch.empty(1, 1, 2)).isfinite().all()
    assert "expected a number from 0 on, or -1" in refused(item_seeds, -2, 1)


def test_each_item_needs_a_seed():
    with pytest.raises(ValueError, match="3 items have 2 seeds"):
        ItemNoise([1, 2])(torch.empty(3, 1, 4))
