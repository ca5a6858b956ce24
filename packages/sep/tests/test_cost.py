"""What a model costs: as many parameters as the originals, and multiply-adds that follow from the layers."""

import pytest
from audio_sep import cost
from audio_sep.config import (
    ConditionalUNetConfig,
    MobileNetSubbandTimeConfig,
    ResUNet143Config,
    ResUNet143DecouplePlusConfig,
    ResUNet143SubbandTimeConfig,
    UNetConfig,
    UNetSubbandTimeConfig,
)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (UNetConfig(), 20_783_688),
        (UNetSubbandTimeConfig(), 20_784_474),
        (ResUNet143Config(), 102_571_278),
        (ResUNet143DecouplePlusConfig(), 102_574_002),
        (ResUNet143SubbandTimeConfig(), 102_572_466),
        (MobileNetSubbandTimeConfig(), 306_418),
        (ConditionalUNetConfig(sources=("vocals",)), 20_800_154),
    ],
    ids=lambda value: getattr(type(value), "__name__", "") if not isinstance(value, int) else "",
)
def test_parameters_are_as_many_as_the_original_s(config, parameters):
    facts = cost.describe(config)
    assert facts["parameters"]["total"] == parameters
    assert f"{parameters:,}" in cost.table(facts) and "vocals; 44100 Hz, stereo" in cost.table(facts)


def test_multiply_adds_are_those_of_the_layers():
    """Of a network of one level: two convolutions a block, five blocks."""
    config = UNetConfig(8000, 1, ("vocals",), 16, 8, (3,))
    frames, bins = 1 + 10 * 8000 // 8, 8
    padded = -(-frames // 2) * 2
    whole, half = padded * bins, padded * bins // 4
    encoder, centre, up = whole * 9 * (1 * 3 + 3 * 3), half * 9 * 2 * 3 * 3, half * 4 * 3 * 3
    decoder, after, head = whole * 9 * (6 * 3 + 3 * 3), whole * 9 * 2 * 3 * 3, whole * 3 * 3
    assert cost.macs_per_second(config) == round((encoder + centre + up + decoder + after + head) / 10)


def test_a_source_of_a_conditional_model_takes_a_pass():
    one, two = (cost.macs_per_second(ConditionalUNetConfig(sources=sources)) for sources in (("a",), ("a", "b")))
    assert two == pytest.approx(2 * one, rel=1e-3)
