"""The learning task: logits of mixes, and their Kullback-Leibler divergence from the mixed labels."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from audio_core.train.player import Metrics, Player
from torch import Tensor, nn

from .model import clip_probabilities
from .recipe import Distil

Batch = tuple[Tensor, Tensor]


class Classification:
    """One player, an ACDNet; `gain` is what audio within -1 to 1 is multiplied by for it."""

    def __init__(self, net: Player, gain: float = 1.0, teacher: nn.Module | None = None, distil: Distil | None = None):
        if (teacher is None) != (distil is None):
            raise ValueError("a teacher and how to learn from it belong together")
        self.net, self.gain, self.distil = net, gain, distil
        self.players: Mapping[str, Player] = {"net": net}
        self.frozen = {"teacher": teacher} if teacher else {}

    def step(self, batch: Batch, at: int) -> Metrics:
        """Mixes (B, 1, T) and their labels (B, K)."""
        x, y = batch
        x = x * self.gain
        logits = self.net(x)
        loss = divergence(logits, y)
        if self.distil is not None:
            with torch.no_grad():
                teacher_logits = self.frozen["teacher"](x)
            loss = distillation(logits, teacher_logits, y, self.distil.type, self.distil.temperature, self.distil.alpha)
        self.net.update(loss)
        right = (logits.detach().argmax(-1) == y.argmax(-1)).float().mean()  # of the louder share: 50 to 60 % is usual
        return {"loss": loss.detach(), "accuracy": right}

    def evaluate(self, batch: Batch) -> Metrics:
        """Crops (B, crops, T) of clips and their class numbers (B,)."""
        crops, labels = batch
        probabilities = clip_probabilities(self.release(), crops * self.gain)
        likelihood = probabilities.gather(1, labels[:, None]).clamp(min=1e-12).log().mean()
        return {"accuracy": (probabilities.argmax(-1) == labels).float().mean(), "loss": -likelihood}

    def release(self) -> nn.Module:
        """The averaged weights, where there are such."""
        return self.net.average.net if self.net.average else self.net.raw


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the target distributions (B, K) from those of the logits, mean over the batch."""
    return F.kl_div(logits.log_softmax(-1), target, reduction="batchmean")


def distillation(
    student: Tensor, teacher: Tensor, target: Tensor, type: int, temperature: float, alpha: float
) -> Tensor:
    """The loss of logits (B, K) that learn from a teacher's logits and, with the share `alpha`, from `target`.

    `type` is that of `recipe.Distil`. The teacher's part is multiplied by temperature², by which its gradient shrinks.
    """
    soft, soft_target = student / temperature, (teacher / temperature).softmax(-1)
    of_teacher = F.cross_entropy(soft, soft_target.argmax(-1)) if type == 1 else divergence(soft, soft_target)
    of_label = divergence(student, target) if type == 2 else F.cross_entropy(student, target.argmax(-1))
    return of_teacher * (1 - alpha) * temperature**2 + of_label * alpha
