"""An encoder that learns, as another package would offer it: one convolution, and a Gaussian behind it."""

import torch
from audio_core.files import InputError
from torch import nn


class Frames(nn.Module):
    """Each frame of audio makes mean and deviation of its code."""

    weights = {"kl": 0.01}  # noqa: RUF012 as the other attributes are

    def __init__(self, channels=1, hop=10, width=4):
        super().__init__()
        self.channels, self.hop, self.width = channels, hop, width
        self.layer = nn.Conv1d(channels, 2 * width, hop, stride=hop)

    def forward(self, audio, seeds=None):
        mean, scale = self.layer(nn.functional.pad(audio, (0, -audio.shape[-1] % self.hop))).chunk(2, 1)
        deviation = nn.functional.softplus(scale) + 1e-4
        losses = {"kl": (mean.square() + deviation.square() - 2 * deviation.log() - 1).sum(1).mean()}
        if seeds is None:
            return mean, losses
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(mean.shape[1:], generator=each) for each in draws])
        return mean + deviation * noise.to(mean), losses

    def load_original(self, state, source):
        expected = {f"encoder.{name}" for name in self.layer.state_dict()}
        if missing := expected - {*state}:
            raise InputError(f"{source}: does not fit its configuration: {min(missing)} is missing")
        self.layer.load_state_dict({name.removeprefix("encoder."): each for name, each in state.items()})


def build(parts):
    kind = parts["encoder"]["type"]
    if kind != "frames":
        raise InputError(f"encoder.type: {kind!r} is not one of frames")
    return Frames(**parts["encoder"]["config"])
