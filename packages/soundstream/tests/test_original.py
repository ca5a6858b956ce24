"""Checkpoints of the original programs: every size loads, every wrong file is one line."""

import pytest
import torch
from audio_core.files import InputError
from audio_core.testing import MANGLED, refuses_mangled
from audio_soundstream import original
from audio_soundstream.cli import main
from audio_soundstream.model import load


@pytest.mark.parametrize(("name", "rate"), [("ss_small", 22050), ("ts_ultra_tiny", None)])
def test_a_checkpoint_becomes_a_bundle_with_the_same_codes(stored, checkpoint, tmp_path, capsys, name, rate):
    case, model = stored(name)
    wrapped = {"global_step": 7, "model_state_dict": case.state(), "discriminator_state_dict": {}}
    if rate:
        wrapped["config"] = {"sample_rate": rate, "commitment_weight": 0.25}
    path = checkpoint("soundstream_20251115_120000_step_7.pt", wrapped)
    assert main(["convert", str(path), "-o", str(tmp_path / "bundle")]) == 0
    assert f"{rate or 16000} Hz" in capsys.readouterr().err
    loaded = load(tmp_path / "bundle")
    x = case.inputs["x"][..., : case.inputs["x"].shape[-1] // model.hop * model.hop]
    assert torch.equal(loaded.codes(x), model.codes(x))
    assert loaded.sample_rate == (rate or 16000)


@pytest.mark.parametrize(
    "name", ["ss_small", "ss_default", "ss_c16_d256", "ts_ultra_tiny", "ts_tiny", "ts_medium", "ts_full"]
)
def test_the_shapes_tell_every_size(stored_case, name):
    case = stored_case(name)
    model = original.from_state(case.state())
    found = model.config
    wanted = [case.config[key] for key in ("C", "D", "strides", "num_quantizers", "codebook_size", "sample_rate")]
    assert [found.channels, found.width, [*found.strides], found.layers, found.size, found.rate] == wanted
    assert type(model).__name__ == case.config["model"]


def test_other_strides_are_seen(stored_case):
    state = stored_case("ss_small").state()
    for side, number in (("encoder.blocks.0.downsample.conv", 3), ("decoder.blocks.3.upsample", 3)):
        shape = [*state[f"{side}.weight"].shape]
        state[f"{side}.weight"] = torch.zeros(*shape[:2], 2 * number)
    assert original.from_state(state).config.strides == (3, 4, 5, 8)


def broken(state, **changes):
    return {**state, **changes}


def test_what_is_no_such_checkpoint_is_refused_in_one_line(stored_case, checkpoint, tmp_path, capsys):
    state = stored_case("ts_ultra_tiny").state()
    less = {name: value for name, value in state.items() if name != "decoder.final_conv.bias"}
    old = {name.replace("res_units.0", "res_unit"): value for name, value in state.items() if "res_units.1" not in name}
    first = "encoder.initial_conv.weight"
    cases = {
        "lacks decoder.final_conv.bias": less,
        "holds extra, which no such codec has": broken(state, extra=torch.zeros(1)),
        "from before it had three residual units": old,
        "has the shape (4, 1, 5), expected (4, 1, 3)": broken(state, **{first: torch.zeros(4, 1, 5)}),
        "not finite": broken(state, **{first: torch.full((4, 1, 3), float("nan"))}),
        "is no SoundStream or TinyStream": {"conv.weight": torch.zeros(3)},
        "codebooks differ in shape": broken(state, **{"quantizer.quantizers.1.embeddings.weight": torch.zeros(8, 64)}),
    }
    for text, weights in cases.items():
        path = checkpoint("wrong.pt", {"model_state_dict": weights})
        assert main(["convert", str(path), "-o", str(tmp_path / "bundle")]) == 2
        line = capsys.readouterr().err
        assert text in line and str(path) in line and line.count("\n") == 1
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(InputError, match=r"(n|N)o such file"):
        original.convert(tmp_path / "absent.pt")


@pytest.mark.parametrize("kind", MANGLED)
@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny"])
def test_mangled_tensors_are_one_line(stored_case, kind, name):
    """One of each number of axes, those that the sizes are taken from, and a codebook."""
    state = stored_case(name).state()
    names = {tensor.ndim: name for name, tensor in state.items()} | {
        name: name for name in state if "initial_conv" in name or "downsample" in name or ".0.embeddings" in name
    }
    refuses_mangled(state, names.values(), kind, original.from_state)
