"""The metric discriminator: equality with the original, and its spectral norm."""

import torch
from audio_core.testing import close
from audio_semamba import original
from audio_semamba.config import DiscriminatorConfig
from audio_semamba.discriminator import MetricDiscriminator


def filled(case):
    net = MetricDiscriminator(DiscriminatorConfig(case.config["dim"]))
    net.load_state_dict(dict(original.renamed(case.state(), original.discriminator_names())))
    return net.eval()


@torch.no_grad()
def test_the_discriminator_equals_the_original(stored_case):
    case = stored_case("metric_discriminator")
    net, out = filled(case), case.outputs
    magnitudes = case.inputs["clean_mag"], case.inputs["other_mag"]
    features = net.features(*magnitudes)
    close(features, out["features"])
    close(features.amax((2, 3)), out["pooled"])
    close(net.logits(features), out["logit"][:, 0])
    assert (net(*magnitudes) - out["score"][:, 0]).abs().max() <= 1e-5


def test_training_divides_weights_by_their_largest_singular_value():
    net = MetricDiscriminator(DiscriminatorConfig(4)).train()
    with torch.no_grad():
        for _ in range(100):
            net(torch.rand(1, 32, 32), torch.rand(1, 32, 32))
    net.eval()
    for layer in (net.convs[2][0], net.hidden, net.last):
        largest = torch.linalg.svdvals(layer.weight.detach().flatten(1))[0]
        assert abs(float(largest) - 1) < 1e-3


def test_several_passes_come_before_one_backward():
    """As in the step of a discriminator: the vectors that a pass used outlive the next pass."""
    net = MetricDiscriminator(DiscriminatorConfig(4)).train()
    net.dropout.p = 0.0
    magnitudes = torch.rand(2, 32, 32), torch.rand(2, 32, 32)
    first = net(*magnitudes)
    (first + net(*reversed(magnitudes))).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


def test_half_precision_keeps_the_norm_exact():
    net = MetricDiscriminator(DiscriminatorConfig(4)).eval()
    exact = net.hidden.weight
    with torch.autocast("cpu", torch.bfloat16):
        assert net.hidden.weight.dtype == torch.float32
        assert torch.equal(net.hidden.weight, exact)
        assert net(torch.rand(1, 32, 32), torch.rand(1, 32, 32)).dtype == torch.float32
