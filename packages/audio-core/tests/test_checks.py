from types import SimpleNamespace

import pytest
from audio_core.checks import within


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {}, "size must be at least 1, got 0"),
        (float("nan"), {}, "size must be at least 1, got nan"),
        ((2, 0), {}, r"size must be at least 1, got \[2, 0\]"),
        ((), {}, r"size must be at least 1, got \[\]"),
        (1.5, {"most": 1}, "size must be from 1 to 1, got 1.5"),
        ((1, 9), {"most": 8}, r"size must be from 1 to 8, got \[1, 9\]"),
    ],
)
def test_numbers_beyond_the_limits_are_refused_by_their_name(value, limits, message):
    config = SimpleNamespace(depth=1, size=value)
    with pytest.raises(ValueError, match=message):
        within(config, 1, "depth", "size", **limits)


@pytest.mark.parametrize("value", [1, 8, (1, 8), 2.5])
def test_numbers_up_to_both_limits_pass(value):
    within(SimpleNamespace(size=value), 1, "size", most=8)
