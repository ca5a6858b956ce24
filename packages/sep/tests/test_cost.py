"""What models cost, beside the numbers that are known of the originals."""

import pytest
from audio_sep.config import ORIGINAL_TYPES, ConditionalUNetConfig, MobileNetSubbandTimeConfig
from audio_sep.cost import describe, table

# Parameters that learn, and billions of operations a second of audio without those of the Fourier transforms, which are
# two for each multiply-add. The original was measured on 301 frames that were padded to 320.
KNOWN = {
    "UNet": (20_783_688, 53 * 301 / 320 - 5.0),
    "UNetSubbandTime": (20_784_474, 13 * 301 / 320 - 1.26),
    "ResUNet143_DecouplePlusInplaceABN_ISMIR2021": (102_571_278, 186 * 301 / 320 - 5.0),
    "ResUNet143_DecouplePlus": (102_574_002, 50 * 301 / 320 - 5.0),
    "ResUNet143_Subbandtime": (102_572_466, 47 * 301 / 320 - 1.26),
    "MobileNet_Subbandtime": (306_418, 3.3 * 301 / 320 - 1.26),
}


@pytest.mark.parametrize("name", KNOWN)
def test_models_cost_what_is_known_of_them(name):
    facts, (parameters, operations) = describe(ORIGINAL_TYPES[name]()), KNOWN[name]
    assert facts["parameters"]["total"] == parameters
    macs = facts["macs_per_second"]
    assert macs["total"] == sum(count for part, count in macs.items() if part != "total")
    if name == "MobileNet_Subbandtime":  # before its pixels are repeated, convolutions take a quarter
        assert 0.8 * operations < 2 * macs["total"] / 1e9 < 0.97 * operations
    else:
        assert 2 * macs["total"] / 1e9 == pytest.approx(operations, abs=0.6)  # known to the nearest integer


def test_sources_cost_the_head_or_a_pass():
    one, four = (describe(MobileNetSubbandTimeConfig(sources=names)) for names in (("a",), ("a", "b", "c", "d")))
    assert four["macs_per_second"]["head"] == pytest.approx(4 * one["macs_per_second"]["head"])
    assert four["macs_per_second"]["decoder"] == one["macs_per_second"]["decoder"]
    facts = describe(ConditionalUNetConfig(sources=("a", "b", "c")))
    assert facts["passes"] == 3 and "3 for all" in table(facts)
    assert "sources: a, b, c, d" in table(four)
