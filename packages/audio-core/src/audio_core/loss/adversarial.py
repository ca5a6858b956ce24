"""Adversarial losses of a generator and its discriminators, and the balance between these and other losses.

Logits and features are those of a `DiscriminatorOutput`. Every loss is a mean over the discriminators, each
with equal weight, however many logits it has.

    hinge_discriminator          relu(1 - real) + relu(1 + fake)
    hinge_generator              relu(1 - fake): SoundStream's and EnCodec's; no gradient where fake logits are above 1
    linear_generator             -fake: the usual one beside hinge_discriminator, and stable-audio-tools'
    least_squares_discriminator  (1 - real)² + fake²
    least_squares_generator      (1 - fake)²
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dsp.precision import at_least_float32

Logits = Sequence[Tensor]
Features = Sequence[Sequence[Tensor]]


def hinge_discriminator(real: Logits, fake: Logits) -> Tensor:
    return _mean([(1 - x).relu() for x in _wide(real)]) + _mean([(1 + x).relu() for x in _wide(fake)])


def hinge_generator(fake: Logits) -> Tensor:
    return _mean([(1 - x).relu() for x in _wide(fake)])


def linear_generator(fake: Logits) -> Tensor:
    return -_mean(_wide(fake))


def least_squares_discriminator(real: Logits, fake: Logits) -> Tensor:
    return _mean([(1 - x).square() for x in _wide(real)]) + _mean([x.square() for x in _wide(fake)])


def least_squares_generator(fake: Logits) -> Tensor:
    return _mean([(1 - x).square() for x in _wide(fake)])


def feature_matching(real: Features, fake: Features, relative: bool = False) -> Tensor:
    """Mean |real - fake| over a feature map, then over a discriminator's maps, then over the discriminators.

    Real features carry no gradient.

    `relative` divides the mean of a map by its mean |real| + 1e-3: layers with large values do not drown the others.
    """
    discriminators = []
    for reals, fakes in zip(real, fake, strict=True):
        layers = []
        for r, f in zip(reals, fakes, strict=True):
            r = at_least_float32(r.detach())
            distance = F.l1_loss(at_least_float32(f), r)
            layers.append(distance / (r.abs().mean() + 1e-3) if relative else distance)
        discriminators.append(torch.stack(layers).mean())
    return torch.stack(discriminators).mean()


def _wide(logits: Logits) -> list[Tensor]:
    return [at_least_float32(each) for each in logits]


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([each.mean() for each in values]).mean()


class Balancer(nn.Module):
    """EnCodec's loss balancer: weights set the share of the gradient that each loss gets, whatever its size.

        balance = Balancer({"mel": 1.0, "adversarial": 3.0})      # a quarter and three quarters
        player.update(balance({"mel": mel, "adversarial": adversarial}, reconstruction))

    The gradient of each loss with respect to `output` (B, ...) is divided by the moving average of its norm and
    multiplied by weight / sum of weights. The scalar that is returned has the value of the weighted sum of the
    losses, and its backward passes the balanced gradient to the output. A loss that does not depend on the output, such
    as a commitment loss, is added by the caller.

    Where a loss is left out or has no gradient, its average stays, and the others share the whole gradient. A norm is
    the mean over the items of a batch, each as if alone, and over all processes, so that splitting a batch over
    processes changes nothing. Averages are updated at every call, so also with every accumulated part.

    The averages are buffers: make the balancer a submodule of a network that the run saves.
    """

    norms: Tensor
    counts: Tensor

    def __init__(self, weights: Mapping[str, float], decay: float = 0.999):
        super().__init__()
        if wrong := {name: weight for name, weight in weights.items() if not weight > 0}:
            raise ValueError(f"weights of a Balancer are above 0, got {wrong}; leave out losses that do not count")
        self.names, self.decay = list(weights), decay
        self.register_buffer("weights", torch.tensor([float(w) for w in weights.values()]), persistent=False)
        self.register_buffer("norms", torch.zeros(len(weights)))  # sums of norms whose older terms decay,
        self.register_buffer("counts", torch.zeros(len(weights)))  # and of ones: their ratio is the average

    def forward(self, losses: Mapping[str, Tensor], output: Tensor) -> Tensor:
        if unknown := set(losses) - set(self.names):
            raise ValueError(f"losses without a weight: {', '.join(sorted(unknown))}")
        gradients = {self.names.index(name): _gradient(name, loss, output) for name, loss in losses.items()}
        norms = torch.zeros_like(self.norms)
        for place, gradient in gradients.items():
            norms[place] = (
                gradient.flatten(1).norm(dim=1).sum()
            )  # the loss is a mean over B items, so this is the mean of their norms
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(norms)
            norms /= torch.distributed.get_world_size()

        alive = norms > 0
        self.norms = torch.where(alive, self.decay * self.norms + norms, self.norms)
        self.counts = torch.where(alive, self.decay * self.counts + 1, self.counts)
        weights = self.weights * alive
        scales = torch.where(alive, weights / weights.sum() * self.counts / self.norms, 0)
        combined = sum(scales[place] * gradient for place, gradient in gradients.items())
        value = sum(self.weights[self.names.index(name)] * loss.detach() for name, loss in losses.items())
        return value + ((output - output.detach()) * combined).sum()


def _gradient(name: str, loss: Tensor, output: Tensor) -> Tensor:
    """The gradient in at least float32; 0 for a constant."""
    if not loss.requires_grad:
        return at_least_float32(torch.zeros_like(output))
    (gradient,) = torch.autograd.grad(loss, output, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(f"the loss {name} does not depend on the output that is balanced")
    return at_least_float32(gradient)
