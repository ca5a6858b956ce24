"""Checkpoints of the originals, as they wrote them: what they compute is kept, and wrong files say what they are."""

import json

import h5py
import numpy as np
import pytest
import torch
from audio_acdnet import original
from audio_acdnet.config import MICRO, ACDNetConfig
from audio_acdnet.labels import ESC10, ESC50
from audio_acdnet.model import ACDNet
from audio_core.files import InputError
from audio_core.testing import MANGLED, Case, close, refuses_mangled
from torch import nn

MICRO_KEYS = "micro_esc50_20k"


def save(state, path, **more):
    torch.save({"weight": state, "config": list(MICRO), **more}, path)
    return path


@pytest.fixture
def authors(tmp_path, stored):
    case, _ = stored(MICRO_KEYS)
    return case, save(case.state(), tmp_path / "micro.pt")


def test_a_file_of_the_authors_gives_their_outputs(authors):
    case, path = authors
    model = original.convert(path)
    assert model.config == ACDNetConfig(channels=MICRO) and model.config.labels == ESC50
    assert not model.training
    with torch.no_grad():
        close(model(case.inputs["x"][:, None]), case.outputs["logits"])


def test_the_old_format_with_tensors_on_a_gpu_loads_on_a_cpu(tmp_path, stored, monkeypatch):
    """The published files are of this kind; the tag of the storages is all that tells them from others."""
    case, _ = stored(MICRO_KEYS)
    path = tmp_path / "old.pt"
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        torch.save({"weight": case.state(), "config": list(MICRO)}, path, _use_new_zipfile_serialization=False)
    assert b"cuda:0" in path.read_bytes()
    with torch.no_grad():
        close(original.convert(path)(case.inputs["x"][:, None]), case.outputs["logits"])


@pytest.mark.parametrize("bare", [True, False])
def test_the_older_names_and_those_of_several_gpus_are_known(tmp_path, stored, bare):
    case, _ = stored(MICRO_KEYS)
    older = {
        name.replace("sfeb", "filterbank").replace("tfeb.38", "classifier.0").replace("tfeb", "features"): tensor
        for name, tensor in case.state().items()
    }
    assert "classifier.0.weight" in older and "filterbank.0.weight" in older
    path = tmp_path / "older.pt"
    torch.save(older if bare else {"weight": {f"module.{name}": tensor for name, tensor in older.items()}}, path)
    with torch.no_grad():
        close(original.convert(path)(case.inputs["x"][:, None]), case.outputs["logits"])


def to_authors(model: ACDNet) -> dict:
    """What the authors' programs load: {"weight": tensors under their names, "config": the twelve channels}."""
    state = model.state_dict()
    weights = {theirs: state[ours] for ours, theirs in original.names(model.config).items()}
    return {
        "weight": {name: w[:, :, None] if w.ndim == 3 else w for name, w in weights.items()},  # they have (O, I, 1, k)
        "config": list(model.config.channels),
    }


@pytest.mark.parametrize("samples", [30225, 3500, 6300])
def test_what_goes_back_to_the_authors_is_what_came_byte_for_byte(tmp_path, samples):
    """Also where pools are left out, which shifts all later numbers."""
    config = ACDNetConfig(20000, samples, (2, 7, *MICRO[2:]), ("a", "b"))
    model = ACDNet(config)
    for buffer in model.buffers():
        buffer.copy_(torch.rand(buffer.shape) + 1)
    sent = to_authors(model)
    assert sent["config"] == list(config.channels)
    torch.save(sent, tmp_path / "there.pt")
    back = original.convert(tmp_path / "there.pt", [f"samples={samples}", "model.labels=[a, b]"])
    assert back.config == config
    for (name, tensor), again in zip(model.state_dict().items(), back.state_dict().values(), strict=True):
        assert torch.equal(tensor, again), name


def test_names_are_those_of_the_authors(authors):
    case, _ = authors
    names = original.names(ACDNetConfig(channels=MICRO))
    assert sorted(names.values()) == sorted(case.state()) and len(names) == 74
    shapes = {name: list(tensor.shape) for name, tensor in to_authors(original.convert(authors[1]))["weight"].items()}
    assert shapes == {name: shape for name, shape, _ in case.keys}


def test_a_pool_that_is_left_out_shifts_the_numbers():
    config = ACDNetConfig(20000, 3500, (2, 7, *MICRO[2:]), ("a", "b"))  # pool5 and the average pool are 1 by 1
    names = original.names(config)
    assert names["seeing.conv12.weight"] == "tfeb.32.weight"
    assert names["output.weight"] == "tfeb.36.weight"
    assert original.modules(config)[7] == "seeing.conv3"


def test_overrides_say_what_the_file_does_not_hold(authors, tmp_path, stored):
    model = original.convert(authors[1], ["model.rate=22050", "model.samples=33000", "folds=[1, 2, 3, 5]"])
    assert (model.config.rate, model.config.samples, model.config.folds) == (22050, 33000, (1, 2, 3, 5))
    assert model.hearing.pool.kernel_size == 55
    case, _ = stored("micro_esc10_20k_3s")
    path = save(case.state(), tmp_path / "ten.pt")
    assert original.convert(path, ["samples=60000"]).config.labels == tuple(f"class_{i}" for i in range(10))
    model = original.convert(path, ["samples=60000", f"labels=[{', '.join(ESC10)}]"])
    assert model.config.labels == ESC10
    with torch.no_grad():
        close(model(case.inputs["x"][:, None]), case.outputs["logits"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["labels=[dog, cat]"], "labels: 2 are given, but the file has 50 classes"),
        (["samples=3500"], "missing .*give model.rate and model.samples"),
        (["samples=32000"], "need 32013"),
        (["rat=22050"], "unknown key rat; did you mean rate"),
        (["channels=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]"], "no override can change"),
    ],
)
def test_overrides_that_do_not_fit_are_refused(authors, overrides, words):
    with pytest.raises(InputError, match=words) as error:
        original.convert(authors[1], overrides)
    assert str(authors[1]) in str(error.value) and "\n" not in str(error.value)


def broken(state, kind):
    if kind == "shape":
        state["tfeb.4.weight"] = state["tfeb.4.weight"][:, :3]
    elif kind == "missing":
        del state["tfeb.5.running_mean"]
    elif kind == "more":
        state["tfeb.99.bias"] = torch.zeros(3)
    elif kind == "nan":
        state["tfeb.4.weight"][0, 0, 0, 0] = float("nan")
    else:
        state = {"encoder.weight": torch.zeros(3, 3), "decoder.weight": torch.zeros(3, 3)}
    return state


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("shape", r"seeing.conv4.weight here has the shape \(14, 3, 3, 3\), expected \(14, 10, 3, 3\)"),
        ("missing", r"1 tensors missing \(tfeb.5.running_mean\)"),
        ("more", r"1 tensors of no use \(tfeb.99.bias\)"),
        ("nan", "not finite"),
        ("another", "is not an ACDNet: expected twelve convolutions .* got encoder.weight"),
    ],
)
def test_wrong_files_say_what_is_wrong(tmp_path, stored, kind, words):
    path = save(broken(stored(MICRO_KEYS)[0].state(), kind), tmp_path / "wrong.pt")
    with pytest.raises(InputError, match=words):
        original.convert(path)


@pytest.mark.parametrize("kind", MANGLED)
def test_mangled_tensors_are_one_line(tmp_path, stored, kind):
    """One of each number of axes and kind of leaf; what a norm counts may be an integer."""
    state = stored(MICRO_KEYS)[0].state()
    names = {(name.rpartition(".")[2], tensor.ndim): name for name, tensor in state.items() if "tracked" not in name}
    refuses_mangled(
        state, names.values(), kind, lambda tensors: original.convert(save(tensors, tmp_path / "mangled.pt"))
    )


def test_folders_and_missing_files_and_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="a bundle needs no conversion"):
        original.convert(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        original.convert(tmp_path / "none.pt")
    (tmp_path / "page.pt").write_text("<html>")
    with pytest.raises(InputError, match="web page"):
        original.convert(tmp_path / "page.pt")


# --- uverd -------------------------------------------------------------------------------------------------


def uverd(tmp_path, case: Case, **changes):
    state = {name: tensor for name, tensor in (case.state() | changes).items() if tensor is not None}
    more = {"epoch": 3, "optimizer_state_dict": {}, "scheduler_state_dict": {}, "best_acc": 0.5, "best_epoch": 2}
    torch.save({**more, "model_state_dict": state}, tmp_path / "uverd.pt")
    return tmp_path / "uverd.pt"


@pytest.fixture
def uverd_case(stored_case):
    return stored_case("uverd_acdnet_esc50")


@pytest.mark.parametrize("kind", MANGLED)
def test_mangled_tensors_of_uverd_are_one_line(tmp_path, uverd_case, kind):
    names = ["sfeb.conv2.weight", "sfeb.conv2.bias", "tfeb.bn4.running_mean", "tfeb.conv12.weight", "tfeb.dense.bias"]

    def convert(tensors):
        torch.save({"model_state_dict": tensors}, tmp_path / "uverd.pt")
        return original.convert(tmp_path / "uverd.pt")

    refuses_mangled(uverd_case.state(), names, kind, convert)


def test_the_acdnet_of_uverd_becomes_the_same_function(tmp_path, uverd_case):
    model = original.convert(uverd(tmp_path, uverd_case))
    assert model.config.first_pool == int(uverd_case.outputs["sfeb_pool_size"]) == 49
    assert model.config.normalisation == "full_scale_twice" and model.config.labels == tuple(sorted(ESC50))
    audio = uverd_case.inputs["x"].reshape(-1, 1, 30225)
    with torch.no_grad():
        close(model.hearing(audio)[:, None], uverd_case.outputs["sfeb"])
        close(model(audio), uverd_case.outputs["logits"])


def test_the_micro_of_uverd_is_refused_with_the_reason(tmp_path, uverd_case):
    path = uverd(
        tmp_path, uverd_case, **{"sfeb.conv1.weight": torch.zeros(7, 1, 9), "sfeb.conv2.weight": torch.zeros(20, 7, 5)}
    )
    with pytest.raises(InputError, match="Micro-ACDNet of uverd, which never ran: it swaps axes"):
        original.convert(path)


@pytest.mark.parametrize(
    ("changes", "overrides", "words"),
    [
        ({"tfeb.bn5.bias": None}, [], "lacks tfeb.bn5.bias"),
        ({"tfeb.bn12.bias": torch.zeros(50)}, [], "tfeb.bn12.bias is in no ACDNet of uverd"),
        ({}, ["samples=8000"], "0.5 s is the least"),
    ],
)
def test_other_files_of_uverd_are_refused(tmp_path, uverd_case, changes, overrides, words):
    with pytest.raises(InputError, match=words):
        original.convert(uverd(tmp_path, uverd_case, **changes), overrides)


# --- Keras -------------------------------------------------------------------------------------------------


def keras(path, model: ACDNet, offset: int = 0, described: bool = True, root: str = "model_weights"):
    """A file as Keras 2 saves a model, with layers numbered from `offset`."""

    def layer(kind, at):
        name = kind if at + offset == 0 else f"{kind}_{at + offset}"
        return f"{root}/{name}/{name}" if root else f"{name}/{name}"

    state, at = {name: tensor.numpy() for name, tensor in model.state_dict().items()}, 0
    with h5py.File(path, "w") as file:
        for block in ("hearing", "seeing"):
            for number in (1, 2) if block == "hearing" else range(3, 13):
                weight = state[f"{block}.conv{number}.weight"]
                weight = weight[:, :, None] if weight.ndim == 3 else weight
                file[f"{layer('conv2d', at)}/kernel:0"] = weight.transpose(2, 3, 1, 0)
                norm = f"{block}.norm{number}"
                for theirs, ours in (
                    ("gamma", "weight"),
                    ("beta", "bias"),
                    ("moving_mean", "running_mean"),
                    ("moving_variance", "running_var"),
                ):
                    file[f"{layer('batch_normalization', at)}/{theirs}:0"] = state[f"{norm}.{ours}"]
                at += 1
        name = "dense" if offset == 0 else "dense_1"
        file[f"{root}/{name}/{name}/kernel:0"] = state["output.weight"].T
        file[f"{root}/{name}/{name}/bias:0"] = state["output.bias"]
        file["optimizer_weights/SGD/conv2d/kernel/momentum:0"] = np.zeros(3)
        if described:
            shape = {"batch_input_shape": [None, 1, model.config.samples, 1]}
            file.attrs["model_config"] = json.dumps({"config": {"layers": [{"config": shape}]}})


@pytest.mark.parametrize(("offset", "described", "overrides"), [(0, True, []), (24, False, ["samples=20000"])])
def test_a_keras_file_gives_the_same_network_with_its_epsilon(tmp_path, offset, described, overrides):
    """Twelve layers count over ten: their names must not be sorted as text."""
    config = ACDNetConfig(20000, 20000, (4, 32, 12, 12, 23, 18, 38, 43, 62, 58, 77, 37), eps=1e-3)
    model = ACDNet(config).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.uniform_(-0.1, 0.1)
            part.running_var.uniform_(0.01, 1.5)
    keras(tmp_path / "model.h5", model, offset, described)
    loaded = original.convert(tmp_path / "model.h5", overrides)
    assert loaded.config == config
    audio = torch.randn(2, 1, 20000)
    with torch.no_grad():
        assert torch.equal(loaded(audio), model(audio))


def test_other_hdf5_files_are_refused(tmp_path):
    with h5py.File(tmp_path / "pack.h5", "w") as file:
        file["conv2d/kernel"] = np.zeros((3, 3, 1, 1))
    with pytest.raises(InputError, match=r"not an ACDNet of Keras: expected 12 conv2d, .* got \[1, 0, 0\]"):
        original.convert(tmp_path / "pack.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "pack.h5").read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as a Keras file"):
        original.convert(tmp_path / "cut.h5")


@pytest.mark.parametrize("kind", [np.int32, np.complex64])
def test_keras_files_with_other_numbers_are_refused(tmp_path, kind):
    keras(tmp_path / "model.h5", ACDNet(ACDNetConfig(20000, 20000, MICRO)))
    with h5py.File(tmp_path / "model.h5", "a") as file:
        kernel = "model_weights/conv2d_2/conv2d_2/kernel:0"
        changed = file[kernel][()].astype(kind)
        del file[kernel]
        file[kernel] = changed
    with pytest.raises(InputError, match=r"seeing\.conv3\.weight holds no plain floating-point numbers"):
        original.convert(tmp_path / "model.h5")
