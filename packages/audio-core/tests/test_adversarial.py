"""Adversarial losses against stored values, and what the balance between losses promises."""

from pathlib import Path

import pytest
import torch
import warm
from audio_core.loss.adversarial import (
    Balancer,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    least_squares_discriminator,
    least_squares_generator,
    linear_generator,
)
from audio_core.testing import Case, close
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parent / "fixtures"


def test_hinge_and_feature_matching_are_soundstream_s():
    case = Case.load(FIXTURES / "losses_24k")
    real, fake = ([case.inputs[f"{side}_logits_{i}"] for i in range(4)] for side in ("real", "fake"))
    reals, fakes = (
        [[case.inputs[f"{side}_feat_{i}_{j}"] for j in (0, 1)] for i in (0, 1)] for side in ("real", "fake")
    )
    close(hinge_discriminator(real, fake), case.outputs["hinge_discriminator"], 1e-6)
    close(hinge_generator(fake), case.outputs["hinge_generator"], 1e-6)
    close(feature_matching(reals, fakes), case.outputs["feature_matching"], 1e-6)
    total = hinge_generator(fake) + 100 * feature_matching(reals, fakes) + case.outputs["spectral_loss"]
    close(total, case.outputs["generator_total"], 1e-6)


def test_each_loss_has_its_formula_and_each_discriminator_one_voice():
    real, fake = [torch.tensor([2.0, 0.0])], [torch.tensor([-3.0, 0.5, 2.0])]
    assert hinge_discriminator(real, fake).item() == pytest.approx(1 / 2 + (0 + 1.5 + 3) / 3)
    assert hinge_generator(fake).item() == pytest.approx((4 + 0.5 + 0) / 3)
    assert linear_generator(fake).item() == pytest.approx(0.5 / 3)
    assert least_squares_discriminator(real, fake).item() == pytest.approx(1 + (9 + 0.25 + 4) / 3)
    assert least_squares_generator(fake).item() == pytest.approx((16 + 0.25 + 1) / 3)
    long = torch.zeros(1000)  # says 0 everywhere, and counts once
    assert hinge_generator([*fake, long]).item() == pytest.approx((1.5 + 1) / 2)


def test_relative_feature_matching_does_not_hear_how_large_a_map_is():
    maps = [torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    plain = feature_matching([maps[:2]], [maps[2:]]), feature_matching([[100 * maps[0], maps[1]]], [maps[2:]])
    assert plain[1] > 10 * plain[0]
    small = feature_matching([maps[:2]], [maps[2:]], relative=True)
    scaled = feature_matching([[100 * maps[0], maps[1]]], [[100 * maps[2], maps[3]]], relative=True)
    close(scaled, small, 2e-3)  # 1e-3 is added to the mean magnitude
    one_by_one = [feature_matching([[r]], [[f]], relative=True) for r, f in zip(maps[:2], maps[2:], strict=True)]
    close(small, torch.stack(one_by_one).mean(), 1e-6)


def test_real_features_are_constants_and_made_ones_learn():
    real, fake = (torch.randn(1, 2, 5, requires_grad=True) for _ in range(2))
    for relative in (False, True):
        feature_matching([[real]], [[fake]], relative).backward()
    assert real.grad is None and fake.grad.abs().min() > 0


def test_losses_of_half_precision_logits_are_float32_and_of_double_ones_double():
    logits = [torch.full((3000,), 0.3)]
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        converted = [x.to(dtype) for x in logits]
        for loss in (
            hinge_discriminator(converted, converted),
            linear_generator(converted),
            feature_matching([converted], [converted]),
        ):
            assert loss.dtype == expected
        exact = 1 - converted[0][0].double()
        assert hinge_generator(converted).item() == pytest.approx(exact.item(), rel=1e-5)


# The balance


def parts(output, scale=1.0):
    """Three losses of very different sizes, two of them far from parallel."""
    ramp = torch.linspace(-1, 1, output.shape[-1])
    return {"a": 1e4 * scale * (output * ramp).mean(), "b": 1e-4 * output.square().mean(), "c": output.cos().mean()}


WEIGHTS = {"a": 1.0, "b": 2.0, "c": 5.0}


def pull(balance, losses, output):
    """The gradient that arrives at the output."""
    (gradient,) = torch.autograd.grad(balance(losses, output), output)
    return gradient


@given(scales=st.lists(st.floats(1e-12, 1e12), min_size=3, max_size=3), items=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_shares_of_the_gradient_are_the_weights_whatever_the_sizes(scales, items):
    """A loss alone on its own third of the output: the sizes of the thirds are the weights, and sum to one."""
    output = torch.randn(items, 1, 30, generator=torch.Generator().manual_seed(items)).requires_grad_()
    thirds = output.split(10, -1)
    losses = {name: s * t.square().mean() for name, s, t in zip(WEIGHTS, scales, thirds, strict=True)}
    gradient = pull(Balancer(WEIGHTS), losses, output)
    shares = torch.stack([third.flatten(1).norm(dim=1).sum() for third in gradient.split(10, -1)])
    close(shares, torch.tensor([1.0, 2.0, 5.0]) / 8, 1e-4)


def test_the_combined_gradient_is_the_weighted_sum_of_unit_gradients():
    output = torch.randn(3, 2, 50, requires_grad=True)
    expected = torch.zeros_like(output)
    for name, loss in parts(output).items():
        (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
        expected += WEIGHTS[name] / 8 * gradient / gradient.flatten(1).norm(dim=1).sum()
    close(pull(Balancer(WEIGHTS), parts(output), output), expected, 1e-5)


def test_norms_are_moving_averages_so_a_sudden_loss_pulls_harder():
    output, balance = torch.randn(1, 1, 50, requires_grad=True), Balancer({"a": 1.0}, decay=0.5)
    pulls = [pull(balance, {"a": scale * output.mean()}, output).norm().item() for scale in (1.0, 1.0, 4.0)]
    assert pulls == pytest.approx([1, 1, 4 / ((0.25 + 0.5 + 4) / 1.75)])


def test_accumulated_parts_add_up_to_the_joint_batch():
    """As `Player.update` has it, which divides the loss of each part by their number."""
    output, ramp = torch.randn(4, 1, 20, requires_grad=True), torch.linspace(-1, 1, 20)
    accumulating, joint = Balancer({"a": 1.0, "b": 3.0}), Balancer({"a": 1.0, "b": 3.0})
    added = [pull(accumulating, {"a": (p * ramp).mean(), "b": p.mean()}, p) / 2 for p in output.split(2)]
    close(torch.cat(added), pull(joint, {"a": (output * ramp).mean(), "b": output.mean()}, output), 1e-5)


def test_the_gradient_goes_on_into_the_generator_and_the_value_is_the_weighted_sum():
    net, x = torch.nn.Linear(4, 50), torch.randn(2, 1, 4)
    output = net(x)
    losses = parts(output)
    surrogate = Balancer(WEIGHTS)(losses, output)
    assert surrogate.item() == pytest.approx(sum(WEIGHTS[name] * loss.item() for name, loss in losses.items()))
    surrogate.backward()
    again = net(x).detach().requires_grad_()
    close(net.weight.grad, torch.einsum("bco,bci->oi", pull(Balancer(WEIGHTS), parts(again), again), x), 1e-5)


def test_a_loss_without_gradient_or_left_out_leaves_the_others_their_shares():
    output = torch.randn(2, 1, 40, requires_grad=True)
    losses = parts(output)
    two = {name: losses[name] for name in ("a", "c")}
    expected = pull(Balancer({"a": 1.0, "c": 5.0}), two, output)
    silent = {"constant": torch.zeros(()), "flat": (0 * output).sum()}
    for third in ({}, *({"b": loss} for loss in silent.values())):
        balance = Balancer(WEIGHTS)
        for _ in range(50):
            close(pull(balance, {**two, **third}, output), expected, 1e-5)
        gradient = pull(balance, losses, output)  # it wakes up with its share, not with a leap
        close(gradient, pull(Balancer(WEIGHTS), losses, output), 1e-5)
    assert not pull(Balancer(WEIGHTS), {"b": silent["flat"]}, output).any()


def test_what_is_not_a_number_is_not_hidden():
    output = torch.zeros(1, 1, 8, requires_grad=True)
    losses = {"a": output.abs().sum().sqrt(), "b": (output + 1).sum()}  # the first has no gradient at 0
    assert pull(Balancer(WEIGHTS), losses, output).isnan().any()


def test_a_saved_balance_goes_on_to_the_same_bit():
    torch.manual_seed(1)
    outputs = [torch.randn(2, 1, 40, requires_grad=True) for _ in range(6)]
    whole, before, after = Balancer(WEIGHTS), Balancer(WEIGHTS), Balancer(WEIGHTS)
    expected = [pull(whole, parts(output, at + 1), output) for at, output in enumerate(outputs)]
    for at, output in enumerate(outputs[:3]):
        pull(before, parts(output, at + 1), output)
    after.load_state_dict(before.state_dict())
    for at, output in enumerate(outputs[3:], 3):
        assert torch.equal(pull(after, parts(output, at + 1), output), expected[at])


def test_a_half_precision_output_is_balanced_in_float32():
    output = torch.randn(2, 1, 30000).bfloat16().requires_grad_()
    thirds = output.split(10000, -1)
    losses = {name: third.float().square().mean() for name, third in zip(WEIGHTS, thirds, strict=True)}
    with torch.autocast("cpu", torch.bfloat16):
        gradient = pull(Balancer(WEIGHTS), losses, output)
    assert gradient.dtype == torch.bfloat16
    shares = torch.stack([third.float().flatten(1).norm(dim=1).sum() for third in gradient.split(10000, -1)])
    close(shares, torch.tensor([1.0, 2.0, 5.0]) / 8, 3e-4)


def test_a_balance_says_what_does_not_fit():
    output = torch.randn(1, 1, 8, requires_grad=True)
    with pytest.raises(ValueError, match=r"above 0, got {'b': 0}"):
        Balancer({"a": 1.0, "b": 0})
    with pytest.raises(ValueError, match="without a weight: d"):
        Balancer(WEIGHTS)({"d": output.sum()}, output)
    with pytest.raises(ValueError, match="loss a does not depend on the output"):
        Balancer(WEIGHTS)({"a": torch.ones(2, requires_grad=True).sum()}, output)


PROCESS = """
import sys, torch
from audio_core.loss.adversarial import Balancer
torch.distributed.init_process_group("gloo")
rank, folder = torch.distributed.get_rank(), sys.argv[1]
outputs = torch.load(f"{folder}/outputs.pt")
balance, pulls = Balancer({"a": 1.0, "b": 3.0}), []
for output in outputs:
    part = output[2 * rank : 2 * rank + 2].requires_grad_()
    losses = {"a": part.square().mean(), "b": part.cos().mean()}
    pulls.append(torch.autograd.grad(balance(losses, part), part)[0])
torch.save(pulls, f"{folder}/pulls-{rank}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_balance_like_one_with_the_joint_batch(tmp_path):
    """Their mean gradient, as a distributed wrapper takes it, is the joint batch's."""
    outputs = [torch.randn(4, 1, 20) * torch.tensor([1.0, 2, 30, 4])[:, None, None] for _ in range(3)]
    torch.save(outputs, tmp_path / "outputs.pt")
    result = warm.run("-c", PROCESS, tmp_path, processes=2)
    assert result.returncode == 0, result.stderr
    pulls = [torch.load(tmp_path / f"pulls-{rank}.pt") for rank in (0, 1)]
    balance = Balancer({"a": 1.0, "b": 3.0})
    for at, output in enumerate(outputs):
        output.requires_grad_()
        joint = pull(balance, {"a": output.square().mean(), "b": output.cos().mean()}, output)
        close(torch.cat([pulls[0][at], pulls[1][at]]) / 2, joint, 1e-5)
