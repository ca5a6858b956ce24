"""The filter bank: the original's numbers, round trips, and autocast."""

import torch
from audio_core.testing import close, noise
from audio_sep.models.pqmf import PQMF


def snr_db(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float(10 * torch.log10(expected.square().sum() / (actual - expected).square().sum()))


def test_the_filter_bank_is_bytesep_s(stored_case):
    case, bank = stored_case("pqmf_4x64"), PQMF()
    close(bank.analysis_weight, case.outputs["analysis_weight"])
    close(bank.synthesis_weight, case.outputs["synthesis_weight"])
    for name, suffix in (("x", ""), ("x_len1003", "_len1003"), ("impulse_at_100", "_impulse")):
        x = case.inputs[name]
        close(bank.analysis(x), case.outputs[f"subbands{suffix}"])
        close(bank.synthesis(bank.analysis(x)), case.outputs[f"reconstruction{suffix}"])
        assert snr_db(bank.synthesis(bank.analysis(x), x.shape[-1]), x) >= 100  # every sample comes back
    random = bank.synthesis(case.inputs["random_subbands"])
    close(random, case.outputs["synthesis_of_random_subbands"])


def test_any_length_comes_back_in_place():
    for length in (1, 5, 999, 1000):
        x = noise(seed=length, seconds=length / 16000, channels=3)[None]
        frames = PQMF().analysis(x)
        assert frames.shape[:2] == (1, 12) and 0 < frames.shape[-1] * 4 - (length + 60) <= 4
        assert snr_db(PQMF().synthesis(frames, length), x) >= 75  # edges included, no delay


def test_autocast_changes_no_band():
    bank, x = PQMF(), noise(seed=4, seconds=0.2, channels=2)[None]
    plain = bank.analysis(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bank.analysis(x), plain)
        assert bank.analysis(x.bfloat16()).dtype == torch.float32
