"""Residual quantizers: searching, learning, and learning in several processes."""

import copy
import re
from importlib import metadata
from pathlib import Path

import pytest
import torch
import warm
from audio_core.files import InputError
from audio_core.nn.quantize import PRIVATE, ResidualQuantizer, usage

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def blobs(count: int, seed: int = 0) -> torch.Tensor:
    """(2, 8, count / 2) latents around 16 centres."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    points = centres[torch.randint(16, (count,), generator=draw)] + 0.05 * torch.randn(count, 8, generator=draw)
    return points.view(2, count // 2, 8).transpose(1, 2)


def test_codes_are_the_nearest_entries_of_what_is_left():
    quantizer = ResidualQuantizer(3, 2, 4)
    quantizer.load_codebooks(torch.randn(2, 4, 3))
    latents = torch.randn(2, 3, 5)
    codes = quantizer.codes(latents)
    residual = latents.clone()
    for layer, book in enumerate(quantizer.codebooks):
        distances = (residual.transpose(1, 2)[:, :, None] - book).square().sum(-1)  # (B, F, K)
        assert torch.equal(codes[:, layer], distances.argmin(-1))
        residual = residual - book[codes[:, layer]].transpose(1, 2)
    assert torch.allclose(quantizer.from_codes(codes), latents - residual, atol=1e-6)
    assert torch.equal(quantizer.codes(latents, 1), codes[:, :1])


def test_of_equal_entries_the_first_is_chosen():
    quantizer = ResidualQuantizer(2, 1, 3)
    quantizer.load_codebooks(torch.tensor([[[5.0, 5.0], [1.0, 0.0], [1.0, 0.0]]]))
    assert quantizer.codes(torch.tensor([[[1.0], [0.0]]])).item() == 1


def test_codebooks_begin_as_k_means_and_follow_the_data():
    quantizer = ResidualQuantizer(8, 2, 16).train()
    for step in range(30):
        quantizer(blobs(512, step))
    quantizer.eval()
    quantised = quantizer(blobs(512, 99))
    assert quantised.losses[0] < 0.1 and quantised.losses[1] <= quantised.losses[0]
    entropy, used = usage(quantised.codes, 16)
    assert entropy[0] > 3 and used[0] > 0.8


def test_entries_that_nobody_chooses_are_replaced():
    quantizer = ResidualQuantizer(8, 1, 16).train()
    quantizer(blobs(512))
    quantizer.codebooks[0, :8] = 1e3
    quantizer.counts[0, :8] = 0.0
    quantizer(blobs(512, 1))
    assert quantizer.codebooks.abs().max() < 10


def test_on_steady_data_entries_stay_where_they_are():
    quantizer = ResidualQuantizer(8, 1, 256).train()
    draw = torch.Generator().manual_seed(0)
    for _ in range(60):  # 1.2 vectors an entry
        before = quantizer.codebooks.clone()
        quantizer(torch.randn(2, 8, 150, generator=draw))
    moved = (quantizer.codebooks - before).norm(dim=-1)[0]
    assert (moved > 1).float().mean() < 0.05


def test_half_precision_around_it_changes_no_code():
    quantizer = ResidualQuantizer(8, 2, 64).eval()
    quantizer.load_codebooks(torch.randn(2, 64, 8))
    latents = torch.randn(1, 8, 500)
    with torch.autocast("cpu", torch.bfloat16):
        codes, out = quantizer.codes(latents), quantizer(latents)
    assert torch.equal(codes, quantizer.codes(latents)) and out.losses.dtype == torch.float32


def test_it_searches_when_made_in_inference_mode():
    with torch.inference_mode():
        quantizer = ResidualQuantizer(8, 1, 4)
        quantizer.load_codebooks(torch.randn(1, 4, 8))
        assert quantizer.codes(torch.randn(1, 8, 3)).shape == (1, 1, 3)


def test_every_layer_pulls_the_encoder_and_rounding_passes_gradients():
    quantizer = ResidualQuantizer(8, 2, 4).train()
    quantizer(blobs(64))
    latents = blobs(64, 1).requires_grad_()
    out = quantizer(latents)
    (of_second,) = torch.autograd.grad(out.losses[1], latents, retain_graph=True)
    assert of_second.abs().max() > 0
    (through,) = torch.autograd.grad(out.latents.sum(), latents)
    assert torch.equal(through, torch.ones_like(latents))


def test_counts_say_how_many_layers_rebuild_each_item():
    quantizer = ResidualQuantizer(8, 3, 4).eval()
    quantizer.load_codebooks(torch.randn(3, 4, 8))
    latents = blobs(64)
    out = quantizer(latents, torch.tensor([1, 3]))
    codes = quantizer.codes(latents)
    assert torch.allclose(out.latents[0], quantizer.from_codes(codes[:1, :1])[0], atol=1e-6)
    assert torch.allclose(out.latents[1], quantizer.from_codes(codes[1:])[0], atol=1e-6)


def test_searching_sees_what_was_just_learnt_and_just_loaded():
    quantizer = ResidualQuantizer(8, 1, 16).train()
    quantizer(blobs(512))
    before = quantizer.codes(blobs(64, 2))
    quantizer(blobs(512, 1) + 5)
    fresh = ResidualQuantizer(8, 1, 16)
    fresh.load_state_dict(quantizer.state_dict())
    assert torch.equal(fresh.codes(blobs(64, 2)), quantizer.codes(blobs(64, 2)))
    quantizer.load_codebooks(torch.randn(1, 16, 8))
    assert not torch.equal(quantizer.codes(blobs(64, 2)), before)


def test_a_copy_learns_on_its_own():
    quantizer = ResidualQuantizer(8, 1, 16).train()
    quantizer(blobs(512))
    twin = copy.deepcopy(quantizer)
    kept = quantizer.codebooks.clone()
    twin(blobs(512, 1) + 1)
    assert torch.equal(quantizer.codebooks, kept) and not torch.equal(twin.codebooks, kept)


def test_a_finished_quantizer_stays_as_it_is_also_in_training():
    quantizer = ResidualQuantizer(8, 1, 4, learns=False).train()
    quantizer.load_codebooks(torch.randn(1, 4, 8))
    kept = quantizer.codebooks.clone()
    quantizer(blobs(64))
    assert torch.equal(quantizer.codebooks, kept) and set(quantizer.state_dict()) == {"codebooks", "counts"}


@pytest.mark.parametrize("codes", [torch.full((1, 1, 2), 4), torch.full((1, 1, 2), -1), torch.zeros(1, 3, 2).long()])
def test_codes_that_no_codebook_has_are_refused(codes):
    with pytest.raises(InputError, match="codes"):
        ResidualQuantizer(8, 2, 4).from_codes(codes)


LEARN = """
import sys, torch
from audio_core.nn.quantize import ResidualQuantizer

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
torch.manual_seed(rank)  # processes see and draw different things
quantizer = ResidualQuantizer(8, 2, 16).train()
for step in range(5):
    quantizer(torch.randn(2, 8, 64))
torch.save(quantizer.state_dict(), f"{sys.argv[1]}/{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_keep_the_same_codebooks(tmp_path):
    result = warm.run("-c", LEARN, tmp_path, processes=2)
    assert result.returncode == 0, result.stderr
    one, other = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["codebooks"].abs().max() > 0


def test_the_version_of_the_library_is_one_whose_private_fields_are_known():
    """Another version goes into the extra `quantize` when the tests of this file pass with it."""
    from vector_quantize_pytorch import ResidualVQ

    codebook = ResidualVQ(dim=4, num_quantizers=1, codebook_size=4).layers[0]._codebook
    assert [name for name in PRIVATE if not hasattr(codebook, name)] == []
    pinned = re.search(r"vector-quantize-pytorch>=([\d.]+),<([\d.]+)", PYPROJECT.read_text())
    least, below = (tuple(map(int, version.split("."))) for version in pinned.groups())
    assert least <= tuple(map(int, metadata.version("vector-quantize-pytorch").split(".")[:2])) < below
