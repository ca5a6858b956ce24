"""The network against stored outputs of the originals, and its own promises."""

import pytest
import torch
from audio_acdnet.config import MICRO, ACDNetConfig, accepted
from audio_acdnet.labels import ESC10
from audio_acdnet.model import ACDNet, PairwiseMax, convolutions, folded
from audio_core.testing import check_bundle, check_gradients, check_repeats, close
from torch import nn

TINY = ACDNetConfig(20000, 12000, (2, 8, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8), ("a", "b", "c"))
NETWORKS = ["acdnet_esc50_20k", "acdnet_esc50_44k", "acdnet_esc10_16k_1s", "micro_esc50_20k", "micro_esc10_20k_3s"]


def watched(model: ACDNet, audio: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of all named parts."""
    seen: dict[str, torch.Tensor] = {}
    for name, part in [*model.hearing.named_children(), *model.seeing.named_children()]:
        part.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
    with torch.no_grad():
        return {**seen, "logits": model(audio), "probs": model.probabilities(audio), **seen}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_compute_what_the_authors_compute(stored, name):
    case, model = stored(name)
    out = watched(model, case.inputs["x"][:, None])
    close(out["relu1"][:, :, None, :64], case.outputs["sfeb_conv1_relu_head"])
    close(out["pool"][:, :, None], case.outputs["sfeb"])
    for stage in (1, 3, 5):
        close(out[f"pool{stage}"].mean((2, 3)), case.outputs[f"tfeb_pool{stage}_mean"])
    close(out["average"].flatten(1), case.outputs["features"])
    close(out["logits"], case.outputs["logits"])
    close(out["probs"], case.outputs["probs"])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("pairwise", [True, False])
def test_folding_the_normalisations_changes_nothing_but_rounding(stored, name, pairwise):
    case, model = stored(name)
    quick = folded(model, pairwise)
    audio = case.inputs["x"][:, None]
    with torch.inference_mode():
        close(quick(audio), case.outputs["logits"])
        close(quick.probabilities(audio), case.outputs["probs"])
    assert not [part for part in quick.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]


def test_three_steps_of_training_are_those_of_the_authors(stored):
    case, model = stored("micro_train_steps")
    model.double().train().seeing.dropout.p = 0.0
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    optimizer, losses = torch.optim.SGD(model.parameters(), **settings), []
    for step in range(3):
        optimizer.zero_grad()
        loss = nn.functional.kl_div(
            model(case.inputs["x"][:, None].double()).log_softmax(1), case.inputs["y"].double(), reduction="batchmean"
        )
        loss.backward()
        if step == 0:
            gradients = torch.stack([weight.grad.norm() for weight in model.parameters()])
        optimizer.step()
        losses.append(loss.item())
    norms = torch.stack([weight.detach().norm() for weight in model.parameters()])
    torch.testing.assert_close(gradients.double(), case.outputs["grad_norms"], rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), case.outputs["losses"], rtol=1e-5, atol=0)
    torch.testing.assert_close(norms.double(), case.outputs["param_norms"], rtol=1e-5, atol=0)
    close(model.hearing.norm1.running_mean, case.outputs["running_mean_first"])
    close(model.seeing.norm12.running_var, case.outputs["running_var_last"])
    close(model.output.weight, case.outputs["fc_weight"])


def test_a_small_picture_leaves_pools_out_and_needs_no_average():
    config = ACDNetConfig(20000, 3500, (2, 3, *TINY.channels[2:]), ("a", "b"))
    model = ACDNet(config)
    parts = dict(model.seeing.named_children())
    assert {name for name in parts if "pool" in name or name == "average"} == {"pool1", "pool2", "pool3", "pool4"}
    assert model(torch.zeros(2, 1, 3500)).shape == (2, 2)


@pytest.mark.parametrize("end", [0, 1])
def test_lengths_that_fit_run_and_others_are_refused(end):
    model = ACDNet(TINY).eval()
    length = accepted(TINY)[end]
    assert model(torch.zeros(1, 1, length)).shape == (1, 3)
    with pytest.raises(ValueError, match=rf"{length + 2 * end - 1} samples; a model made for 12000"):
        model(torch.zeros(1, 1, length + 2 * end - 1))
    with pytest.raises(ValueError, match=r"\(B, 1, T\)"):
        model(torch.zeros(1, 2, 12000))


def test_the_tail_that_the_average_pool_leaves_out_is_not_heard():
    """A global average would hear it, and pass every stored case."""
    model = ACDNet(ACDNetConfig(channels=MICRO)).eval()
    audio = torch.randn(1, 1, 45000)
    changed = audio.clone()
    changed[..., 44800:] += 1  # behind all that the 128 columns of the pools can see
    with torch.no_grad():
        assert torch.equal(model(audio), model(changed))
        assert not torch.equal(model(audio[..., :30225]), model(changed[..., -30225:]))


def test_a_model_passes_what_every_model_must(tmp_path):
    model = ACDNet(TINY)
    audio = torch.randn(3, 1, 12000)
    check_repeats(model, audio)
    model.seeing.dropout.p = 0.0
    check_gradients(model, audio)
    check_bundle(model, tmp_path / "bundle")


def test_fresh_weights_have_the_deviations_of_the_authors():
    model = ACDNet(ACDNetConfig())
    for name, part in convolutions(model).items():
        fan_in = part.weight[0].numel()
        tolerance = 4 / (2 * part.weight.numel()) ** 0.5  # four deviations of a sample deviation
        assert part.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=tolerance), name
    assert model.output.weight.std().item() == pytest.approx(50**-0.5, rel=0.06)
    assert model.output.bias.abs().max() <= 50**-0.5
    assert model.seeing.norm3.weight.eq(1).all() and model.seeing.norm3.bias.eq(0).all()


def test_probabilities_sum_to_one_and_labels_give_the_number_of_classes():
    model = ACDNet(ACDNetConfig(channels=MICRO, labels=ESC10)).eval()
    sums = model.probabilities(torch.randn(2, 1, 30225)).sum(1)
    assert sums.tolist() == pytest.approx([1, 1])
    assert model.output.out_features == 10 and model.config.channels[-1] == 48


def test_the_pairwise_pool_is_the_pool_of_pytorch():
    x = torch.randn(2, 3, 7, 9)
    for kernel in ((2, 2), (1, 2), (2, 1)):
        assert torch.equal(PairwiseMax(kernel)(x), nn.functional.max_pool2d(x, kernel))
