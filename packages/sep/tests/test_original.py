"""Checkpoints of the original program, in all the forms in which they are around."""

import re

import pytest
import torch
from audio_core import bundle
from audio_core.files import InputError
from audio_core.testing import MANGLED, refused, refuses_mangled
from audio_core.weights import no_values
from audio_sep import PACKAGE, config, original
from audio_sep.config import ORIGINAL_TYPES, UNPUBLISHED, original_type
from audio_sep.models import MODELS, load

CASES = {
    "unet": "UNet",
    "unet_subbandtime": "UNetSubbandTime",
    "conditional_unet": "ConditionalUNet",
    "mobilenet_subbandtime": "MobileNetSubbandTime",
    "resunet143_subbandtime": "ResUNet143SubbandTime",
    "resunet143_decoupleplus": "ResUNet143DecouplePlus",
    "resunet143_ismir2021": "ResUNet143",
}
PUBLISHED = "mobilenet_subbtandtime_vocals_7.2dB_500k_steps_v2.pth"


@pytest.fixture
def state(stored_case):
    """The weights of a MobileNet under the original's names."""
    return stored_case("mobilenet_subbandtime").state()


@pytest.fixture
def stems(stored_case):
    """The same for four sources."""
    return stored_case("mobilenet_subbandtime_4stems").state()


def learnt(state):
    """With a head whose masks pass all and whose rotations are small, as far as a trained model goes."""
    bias = torch.tensor([1.0, 2.0, 0.0, -1.0])[:, None].expand(4, 4)  # mask, cosine, sine, added magnitude; bands
    return {
        **state,
        "after_conv2.weight": 0.1 * state["after_conv2.weight"],
        "after_conv2.bias": bias.repeat(2, 1).flatten(),
    }


def constants(n_fft):
    """What the original saves of its Fourier transforms."""
    names = ("stft.conv_real.weight", "stft.conv_imag.weight", "istft.conv_real.weight", "istft.conv_imag.weight")
    return {**{name: torch.zeros(3, 1, n_fft) for name in names}, "istft.ola_window": torch.zeros(n_fft)}


def filters(bank):
    return {
        "pqmf.ana_conv_filter.weight": bank.analysis_weight.clone(),
        "pqmf.syn_conv_filter.weight": bank.synthesis_weight.clone(),
    }


def test_checkpoints_of_the_trainer_are_read(checkpoint, state):
    model = original.convert(checkpoint(PUBLISHED, {"step": 500000, "model": {**state, **constants(512)}}))
    assert type(model) is MODELS["MobileNetSubbandTime"]
    assert model.config == config.MobileNetSubbandTimeConfig(sources=("vocals",))
    assert not model.training
    for name, values in model.state_dict().items():
        if not name.startswith("bank."):
            assert torch.equal(values, state[original.original_name(name)])
    assert original.summary(model) == (
        "MobileNetSubbandTime",
        "separates vocals of 2 channels at 44100 Hz, 306418 parameters",
    )


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "_orig_mod.module."])
def test_wrappers_of_other_libraries_are_taken_off(checkpoint, state, prefix):
    tensors = {prefix + name: values for name, values in state.items()}
    loss = {"loss_function.stft.conv_real.weight": torch.zeros(3, 1, 4)}  # which Lightning saves as well
    data = {"state_dict": {**tensors, **loss}, "epoch": 3, "pytorch-lightning_version": "1.2.1"}
    model = original.convert(checkpoint(PUBLISHED.replace(".pth", ".ckpt"), data))
    assert torch.equal(model.planes.bias, state["after_conv2.bias"].view(2, 16).flatten())


def test_filters_of_a_checkpoint_are_kept(checkpoint, state, tmp_path):
    model = original.convert(checkpoint(PUBLISHED, state))
    usual = filters(model.bank)
    other = {name: values + 0.01 for name, values in usual.items()}
    kept = original.convert(checkpoint(PUBLISHED, {**state, **other}))
    assert torch.equal(kept.bank.analysis_weight, other["pqmf.ana_conv_filter.weight"])
    PACKAGE.save(kept, tmp_path / "bundle", "# A model")
    again = load(tmp_path / "bundle")
    assert torch.equal(again.bank.synthesis_weight, other["pqmf.syn_conv_filter.weight"])
    audio = torch.randn(1, 2, 3000)
    assert not torch.allclose(again.separate(audio)["vocals"], model.separate(audio)["vocals"], atol=1e-3)


def test_sources_are_named_by_the_file_or_the_user(checkpoint, state, stems):
    names = ["vocals", "bass", "drums", "other"]
    model = original.convert(
        checkpoint("step=300000.pth", stems), [f"sources=[{','.join(names)}]", "rate=48000", "layout=v2"]
    )
    assert (model.config.sources, model.config.rate) == (tuple(names), 48000)
    accompaniment = PUBLISHED.replace("vocals", "accompaniment")
    assert original.convert(checkpoint(accompaniment, state)).config.sources == ("accompaniment",)
    assert original.convert(checkpoint(accompaniment, state), ["model.sources=[music]"]).config.sources == ("music",)
    for settings, text in (([], "its name does not say which"), (["sources=[a,b]"], "2 are given")):
        with pytest.raises(InputError, match=rf"separates 4 sources, and {text}; name them as sources=\[vocals,bass"):
            original.convert(checkpoint("step=300000.pth", stems), settings)


RECIPE = """
train: {input_source_types: [speech, noise], target_source_types: [speech], model_type: MobileNet_Subbandtime,
  sample_rate: 48000, input_channels: 2, output_channels: 2}
"""


def test_a_recipe_says_what_a_checkpoint_does_not(checkpoint, state, tmp_path):
    recipe, path = tmp_path / "train.yaml", checkpoint("step=300000.pth", {"step": 300000, "model": state})
    recipe.write_text(RECIPE)
    model = original.convert(path, [f"config={recipe}", "layout=v2"])
    assert (model.config.sources, model.config.rate) == (("speech",), 48000)
    model = original.convert(path, [f"config={recipe}", "layout=v2", "rate=16000"])
    assert (model.config.sources, model.config.rate) == (("speech",), 16000)
    recipe.write_text(RECIPE.replace("MobileNet_S", "ResUNet143_S"))
    with pytest.raises(InputError, match="is a MobileNetSubbandTime, and model_type=ResUNet143_Subbandtime is another"):
        original.convert(path, [f"config={recipe}", "layout=v2"])


@pytest.mark.parametrize("name", CASES)
def test_all_names_have_a_place(stored_case, name):
    """Nothing of the original is left out, nothing of ours is left open; all types are recognised."""
    case, cls = stored_case(name), MODELS[CASES[name]]
    with no_values():
        shapes = {key: tuple(values.shape) for key, values in cls(cls.Config()).state_dict().items()}
    original_keys = {original.original_name(key, name == "resunet143_ismir2021") for key in shapes}
    constant = {key for key, _, _ in case.config["constant_keys"] if key.startswith("pqmf.")}
    assert original_keys == {key for key, _, _ in case.keys} | constant
    state = {key: torch.empty(shape, device="meta") for key, shape, _ in case.keys}
    assert original.recognized(state, "file") is cls.Config
    assert original_type(case.config["model_type"]) is cls.Config


def test_the_order_of_planes_is_said_by_the_name(checkpoint, state):
    current = original.convert(checkpoint(PUBLISHED, state))
    earlier = original.convert(checkpoint("resunet143_subbtandtime_vocals_8.8dB_350k_steps.pth", state))
    original.by_plane(current)
    assert torch.equal(current.planes.weight, earlier.planes.weight)
    assert torch.equal(current.planes.bias, earlier.planes.bias)


def test_the_order_of_planes_is_seen_in_trained_models(checkpoint, state, capsys):
    state = learnt(state)
    expected = original.convert(checkpoint(PUBLISHED, state))
    earlier = {**state}
    for leaf in ("weight", "bias"):
        rows = state[f"after_conv2.{leaf}"].unflatten(0, (2, 4, 4))  # channels, planes, bands
        earlier[f"after_conv2.{leaf}"] = rows.transpose(1, 2).flatten(0, 2)
    assert capsys.readouterr().err == ""
    for layout, tensors in (("v2", state), ("v1", earlier)):
        model = original.convert(checkpoint("vocals.pth", tensors))
        assert torch.equal(model.planes.weight, expected.planes.weight)
        assert torch.equal(model.planes.bias, expected.planes.bias)
        assert f"its head has the layout {layout}" in capsys.readouterr().err


def test_the_order_of_planes_is_asked_for_where_it_cannot_be_seen(checkpoint, state, stems):
    with pytest.raises(InputError, match="give layout=v2, or layout=v1 if it is from code before December 2021"):
        original.convert(checkpoint("vocals.pth", state))
    models = [original.convert(checkpoint("vocals.pth", state), [f"layout={layout}"]) for layout in ("v2", "v1")]
    original.by_plane(models[0])
    assert torch.equal(models[0].planes.weight, models[1].planes.weight)
    with pytest.raises(InputError, match="layout v1 mixes up several sources"):
        original.convert(checkpoint("file.pth", stems), ["layout=v1", "sources=[a,b,c,d]"])


def test_unpublished_models_are_answered_with_the_list():
    assert len({*ORIGINAL_TYPES, *UNPUBLISHED}) == 21
    for name in UNPUBLISHED:
        with pytest.raises(
            InputError, match=f"{name}: is a model whose code was never published; there are UNet, UNetS"
        ):
            original_type(name)
    with pytest.raises(InputError, match="UNett: is no model of the original"):
        original_type("UNett")


def test_what_cannot_be_read_is_one_clear_line(checkpoint, state):
    def check(data, message, settings=()):
        assert re.search(message, refused(original.convert, checkpoint(PUBLISHED, data), settings))

    block = "encoder_block1.conv_block"
    check({**state, "more": torch.zeros(1)}, r"looks like a MobileNetSubbandTime, but 1 tensors are unknown \(more\)")
    check({k: v for k, v in state.items() if "block3" not in k}, "80 tensors are missing")
    wide = {**state, f"{block}.conv1b.weight": torch.zeros(48, 1, 3, 3)}
    check(wide, rf"{block}.conv1b.weight has the shape \(48, 1, 3, 3\), and a MobileNetSubbandTime has \(32, 1, 3, 3\)")
    bands = {"pqmf.ana_conv_filter.weight": torch.zeros(8, 1, 64), "pqmf.syn_conv_filter.weight": torch.zeros(8, 8, 8)}
    check({**state, **bands}, r"ana_conv_filter.weight has the shape \(8, 1, 64\), and a Mob.* has \(4, 1, 64\)")
    check({**state, f"{block}.conv1a.weight": torch.zeros(32, 6, 1, 1)}, "no 6 inputs together with 32 planes")
    check({**state, "after_conv2.bias": torch.zeros(31)}, "no 8 inputs together with 31 planes")
    check({k: v for k, v in state.items() if k != "after_conv2.bias"}, "its first or last layer is missing")
    check({**state, "bn0.weight": torch.full((257,), torch.nan)}, "bn0.weight holds values that are not finite")
    check({"conv.weight": torch.zeros(3)}, "is no model of Bytesep; it holds conv.weight")
    check(state, "model_type=UNet is another model", ["model_type=UNet"])
    check(state, "never published", ["model_type=WavUNet"])
    check(state, "unknown key layuot; did you mean layout", ["layuot=v2"])
    check(state, "rate must be at least 1", ["rate=0"])
    check(state, "layout: 'v3' is not one of", ["layout=v3"])


def test_a_unet_of_subbands_has_one_source_and_no_layout(stored_case):
    state = stored_case("unet_subbandtime").state()
    with pytest.raises(InputError, match="layout=v2 is of subband models with a fourth plane"):
        original.model_of(state, "file", original.Settings(("vocals",), layout="v2"))
    two = {
        **state,
        **{f"after_conv2.{leaf}": state[f"after_conv2.{leaf}"].repeat_interleave(2, 0) for leaf in ("weight", "bias")},
    }
    with pytest.raises(InputError, match="mixes up the 2 sources of a UNetSubbandTime; train it anew"):
        original.model_of(two, "file", original.Settings(("vocals", "other")))


@pytest.mark.parametrize("kind", MANGLED)
def test_mangled_tensors_are_one_line(state, kind):
    """One of each number of axes, and those that the sizes are taken from."""
    one_each = {values.ndim: name for name, values in state.items() if "tracked" not in name}
    names = {*one_each.values(), "encoder_block1.conv_block.conv1a.weight", "after_conv2.bias", "bn0.weight"}
    settings = original.Settings(("vocals",))
    refuses_mangled(state, names, kind, lambda tensors: original.model_of(tensors, "file", settings))


def test_bundles_are_no_checkpoints(checkpoint, state, tmp_path):
    model = original.convert(checkpoint(PUBLISHED, state))
    PACKAGE.save(model, tmp_path / "bundle", "# A model")
    assert bundle.describe(tmp_path / "bundle")["class"] == "MobileNetSubbandTime"
    with pytest.raises(InputError, match="use `convert`"):
        load(tmp_path / PUBLISHED)
