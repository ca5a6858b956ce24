"""What a model costs, beside the numbers that are known of the published one."""

import pytest
from audio_semamba.config import SEMambaConfig
from audio_semamba.cost import describe, frame_macs, frame_updates, table
from audio_semamba.model import SEMamba


def test_the_published_model_costs_what_is_known_of_it():
    facts = describe(SEMambaConfig())
    assert facts["parameters"] == {
        "encoder": 382_592,
        "blocks": 1_111_552,
        "decoders": 382_287 + 382_338,
        "total": 2_258_769,
    }
    assert sum(frame_macs(SEMambaConfig()).values()) == pytest.approx(254.8e6, rel=1e-3)
    assert frame_updates(SEMambaConfig()) == 6_553_600
    assert facts["latency_ms"] is None and "looks at the whole recording" in table(facts)


def test_a_causal_model_has_a_delay_and_three_scans_for_four():
    config = SEMambaConfig(n_fft=512, hop=256, window=512, channels=16, blocks=2, causal=True)
    facts = describe(config)
    assert facts["latency_ms"] == 32 and "32 ms" in table(facts)
    assert facts["parameters"]["total"] == sum(p.numel() for p in SEMamba(config).parameters())
    assert frame_updates(config) == 2 * 128 * 3 * 64 * 16
