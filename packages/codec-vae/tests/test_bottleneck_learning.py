"""What bottlenecks do in training: gradients that pass quantization, losses, codebooks that learn, bounded memory."""

import sys

import pytest
import torch
from audio_codec_vae import config as configs
from audio_codec_vae.models import bottleneck
from audio_codec_vae.models.discrepancy import mean_discrepancy
from audio_core.files import InputError
from audio_core.testing import close
from torch.utils._python_dispatch import TorchDispatchMode


def build(config, width=12):
    return bottleneck.build(config, width).train()


# --- gradients -----------------------------------------------------------------------------------------------------


def gradient(model, x):
    """Of a weighted sum of the latents, and the weights."""
    x = x.clone().requires_grad_()
    latents = model.encode(x).latents
    weights = torch.randn(latents.shape)
    (latents * weights).sum().backward()
    return x.grad, weights


def test_gradients_pass_the_residual_quantizer_unchanged():
    model = build(configs.RVQConfig(12, 16, 4))
    gradients, weights = gradient(model, torch.randn(2, 12, 50))
    close(gradients, weights)


def test_gradients_pass_the_entries_of_dac():
    """As if each codebook's projection to few channels were followed by that back, without entries between."""
    model = build(configs.DACRVQConfig(12, 1, 3, 16))
    gradients, weights = gradient(model, torch.randn(2, 12, 50))
    book = model.quantizer.quantizers[0]
    close(gradients, torch.einsum("dw,vd,bvf->bwf", book.in_proj.weight[..., 0], book.out_proj.weight[..., 0], weights))


def test_gradients_pass_the_rounding_of_scalars():
    x = torch.randn(2, 12, 50)
    gradients, weights = gradient(build(configs.FSQConfig((5,) * 12)), x)
    close(gradients, weights * (1 - x.tanh().square()) * 2.002 / 2)
    gradients, weights = gradient(build(configs.DitheredFSQConfig(12, 5)), x)
    close(gradients, weights * (1 - x.tanh().square()))


LOSSES = {
    configs.LogVarianceConfig(): ["kl"],
    configs.VAEConfig(): ["kl"],
    configs.WassersteinConfig(): ["mmd"],
    configs.WassersteinConfig(bypass_mmd=True): [],
    configs.SoftNormConfig(12): ["softnorm"],
    configs.RVQConfig(12, 16, 2): ["quantizer"],
    configs.RVQVAEConfig(6, 16, 2): ["kl", "quantizer"],
    configs.DACRVQConfig(12, 2, 3, 16): ["commitment", "codebook"],
    configs.DACRVQVAEConfig(6, 2, 3, 16): ["kl", "commitment", "codebook"],
    configs.DACRVQConfig(12, 2, 3, 16, quantize_on_decode=True): ["commitment", "codebook"],
    configs.FSQConfig((5,) * 12): [],
}


@pytest.mark.parametrize("config", LOSSES, ids=lambda config: type(config).__name__)
def test_losses_are_finite_and_reach_the_encoder(config):
    model, x = build(config), torch.randn(4, 12, 50, requires_grad=True)
    losses = model.encode(x).losses
    assert [*losses] == LOSSES[config]
    for name, loss in losses.items():
        assert loss.shape == () and loss.isfinite()
        if name != "codebook":  # which draws entries to vectors
            (grad,) = torch.autograd.grad(loss, x, retain_graph=True)
            assert grad.isfinite().all() and grad.abs().max() > 0, name


# --- learning ------------------------------------------------------------------------------------------------------


def test_moving_codebooks_learn():
    model, x = build(configs.RVQConfig(12, 16, 2)), torch.randn(8, 12, 100)
    first, *_, last = (float(model.encode(x).losses["quantizer"]) for _ in range(20))
    assert last < first < 1
    model.eval()
    latents, codes, _ = model.encode(x)
    close(model.from_codes(codes), latents, 1e-6)


@pytest.mark.parametrize(("frames", "share"), [(10, 0.5), (800, 0.02)])
def test_the_threshold_of_dead_entries_counts_vectors(frames, share):
    """2 of a batch as in the original, but of a small batch, which has less for each entry, half of the mean."""
    model = build(configs.RVQConfig(12, 16, 1, threshold_ema_dead_code=2))
    model.encode(torch.randn(2, 12, frames))
    assert model.quantizer.revive == pytest.approx(share)


def test_only_learning_needs_the_library(monkeypatch):
    for name in ("vector_quantize_pytorch", "loguru"):
        monkeypatch.setitem(sys.modules, name, None)  # makes its import fail
    x = torch.randn(1, 12, 9)
    for config in (configs.RVQConfig(12, 16, 2), configs.DACRVQConfig(12, 2), configs.FSQConfig((5,) * 12)):
        bottleneck.build(config, 12).eval().encode(x)
    with pytest.raises(InputError, match="pip install"):
        build(configs.RVQConfig(12, 16, 2)).encode(x)


def test_dropped_codebooks_concern_a_share_of_the_batch():
    model = build(configs.DACRVQConfig(12, 4, 3, 16, quantizer_dropout=0.5))
    x = torch.randn(40, 12, 9)
    latents, codes, _ = model.encode(x, torch.Generator().manual_seed(0))
    counts = [
        [count for count in range(1, 5) if torch.allclose(model.from_codes(each[None, :count])[0], item, atol=1e-5)]
        for each, item in zip(codes, latents, strict=True)
    ]
    assert {each[0] for each in counts[:20]} == {1, 2, 3, 4}
    assert counts[20:] == [[4]] * 20
    assert torch.equal(codes, model.eval().encode(x).codes)


def test_dither_stays_within_a_step_and_codes_in_their_range():
    """The original's codes of dithered values left the range of the codebook."""
    model, x = build(configs.DitheredFSQConfig(3, 5, 4, noise_dropout=0.5)), 3 * torch.randn(400, 12, 9)
    latents, codes, _ = model.encode(x, torch.Generator().manual_seed(0))
    away = (latents - x.tanh()).abs().amax((1, 2))
    assert away.max() <= 0.25 + 1e-6
    rounded = model.eval().encode(x)
    assert torch.equal(codes, rounded.codes) and int(codes.max()) < 125
    exact, still = away == 0, (latents == rounded.latents).flatten(1).all(1)
    assert 0.15 < exact.float().mean() < 0.35 and 0.15 < still.float().mean() < 0.35  # p² and p (1 - p)


def test_noise_after_soft_norm_is_scaled():
    model = build(configs.SoftNormConfig(12, noise_augment_dim=2))
    with torch.no_grad():
        model.noise_scaling_factor.copy_(torch.tensor([0.0, 3.0])[:, None])
    noise = model.decode(torch.zeros(2, 12, 1000))[:, 12:]
    assert not noise[:, 0].any() and 2.5 < noise[:, 1].std() < 3.5


# --- memory --------------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the number of values in the largest tensor that is computed."""

    values = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.values = max(self.values, out.numel())
        return out


def plain_discrepancy(x, y):
    def kernel(a, b):
        return torch.exp(-(a[:, None] - b).square().mean(2) / a.shape[1]).mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)


def test_the_discrepancy_and_its_gradient_are_those_of_the_formula():
    x, y = torch.randn(1100, 4).double(), torch.randn(1100, 4).double()
    results = []
    for function in (mean_discrepancy, plain_discrepancy):
        leaf = (2 * x).requires_grad_()
        loss = function(leaf, y)
        results.append((loss, *torch.autograd.grad(loss, leaf)))
    close(results[0][0], results[1][0], 1e-10)
    close(results[0][1], results[1][1], 1e-10)


def test_memory_of_the_discrepancy_grows_with_the_number_of_vectors_only():
    """The original holds all differences at once: the square of the number, times the width."""
    sizes = []
    for count in (1500, 3000):
        x, largest = torch.randn(count, 8, requires_grad=True), Largest()
        with largest:
            mean_discrepancy(x, torch.randn(count, 8)).backward()
        sizes.append(largest.values)
    assert sizes[1] <= 2 * sizes[0] and sizes[1] < 3000**2 / 2
