"""Checkpoints of originals: unwrapped, never run, and what is wrong with one is one line."""

import json
import pickle
import struct
import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from audio_core import bundle, weights
from audio_core.files import InputError
from safetensors.torch import save_file
from torch import nn

from .bundle_toys import refused

# --- checkpoints of originals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3, "optimizer": {"lr": 1.0}},
        lambda tensors: {"model_state_dict": tensors, "best_acc": 0.5},
        lambda tensors: {"model": {"state_dict": tensors}},
    ],
)
def test_checkpoints_are_unwrapped(tmp_path, wrap):
    tensors = {"a.weight": torch.randn(2, 3), "a.count": torch.tensor(3)}
    torch.save(wrap(tensors), tmp_path / "c.ckpt")
    loaded = bundle.read_checkpoint(tmp_path / "c.ckpt")
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_a_package_names_the_wrapper_of_its_original(tmp_path):
    path = tmp_path / "g.pth"
    torch.save({"generator": {"w": torch.ones(2)}}, path)
    assert bundle.read_checkpoint(path, ["generator"])["w"].tolist() == [1, 1]
    assert refused(path, call=bundle.read_checkpoint) == (
        f"{path}: holds no weights under state_dict, model_state_dict, model; its keys are generator"
    )


def test_safetensors_and_the_old_pickle_layout_are_read(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "c.safetensors")
    assert bundle.read_checkpoint(tmp_path / "c.safetensors")["w"].tolist() == [1, 1]
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert bundle.read_checkpoint(tmp_path / "old.pt")["w"].tolist() == [1, 1]


def test_what_lies_beside_the_weights_is_read_and_only_wanted_tensors_are(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(2)}, "config": {"rate": 8000}}, tmp_path / "c.ckpt")
    contents = bundle.read_contents(tmp_path / "c.ckpt")
    assert contents["config"] == {"rate": 8000} and bundle.named_tensors(contents, "c.ckpt").keys() == {"w"}
    save_file({"a.w": torch.ones(2), "b.w": torch.zeros(2)}, tmp_path / "c.safetensors")
    chosen = bundle.read_contents(tmp_path / "c.safetensors", lambda names: [n for n in names if n.startswith("b.")])
    assert chosen.keys() == {"b.w"}


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(2, dtype=torch.int64), "w holds no plain floating-point numbers"),
        (torch.ones(2, dtype=torch.complex64), "w holds no plain floating-point numbers"),
        (torch.ones(2).to(torch.float8_e4m3fn), "w holds no plain floating-point numbers"),
        (torch.ones(2).to_sparse(), "w holds no plain floating-point numbers"),
        (torch.ones(2, device="meta"), "w holds no plain floating-point numbers"),
        (torch.ones(1).expand(10**6), "w claims more numbers than the file stores"),
        (torch.tensor([1, torch.inf]), "w holds values that are not finite"),
    ],
    ids=str,
)
def test_tensors_of_a_checkpoint_are_plain_and_finite_numbers(tensor, message):
    fine = {"a": torch.ones(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    weights.expect_values(fine, Path("c.pt"))
    assert refused(Path("c.pt"), call=lambda path: weights.expect_values({**fine, "w": tensor}, path)) == (
        f"c.pt: {message}"
    )


def test_tensors_that_count_may_hold_integers():
    for count in (torch.tensor(3), torch.tensor(True), torch.ones(2, dtype=torch.int32), torch.ones(2)):
        weights.expect_values({"norm.count": count}, Path("c.pt"), r".*\.count")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch will not have them for ever
        quantised = torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)
    for count in (torch.ones(2, dtype=torch.complex64), torch.ones(2, dtype=torch.int32).to_sparse(), quantised):
        with pytest.raises(InputError, match=r"norm\.count holds no plain"):
            weights.expect_values({"norm.count": count}, Path("c.pt"), r".*\.count")


def test_weights_of_a_kind_that_pytorch_has_not_are_one_line(tmp_path):
    head = {"weight": {"dtype": "F6_E2M3", "shape": [4, 4], "data_offsets": [0, 12]}}
    text = json.dumps(head).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(12))
    reading = ((weights.load_weights, (nn.Linear(4, 4, bias=False), path)), (bundle.read_checkpoint, (path,)))
    for call, arguments in reading:
        message = refused(*arguments, call=call)
        assert message.startswith(f"{path}: holds weights that cannot be loaded") and "\n" not in message


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    endless: dict = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "c.pt")
    assert "its keys are model" in refused(tmp_path / "c.pt", call=bundle.read_checkpoint)


class Evil:
    def __reduce__(self):
        return print, ("run by the pickle",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "c.ckpt"
    torch.save({"state_dict": {}, "hyper": Namespace(a=1)}, path)
    text = refused(path, call=bundle.read_checkpoint)
    assert text.startswith(f"{path}: holds Python objects (argparse.Namespace), which could run code")
    torch.save({"w": Evil()}, path)
    assert "holds Python objects (print)" in refused(path, call=bundle.read_checkpoint)
    path.write_bytes(pickle.dumps(Evil()))
    assert refused(path, call=bundle.read_checkpoint).startswith(f"{path}: ")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>", "is not a checkpoint but a web page: a download that went wrong"),
        (b"version https://git-lfs.github.com/spec/v1", "is not a checkpoint but a Git LFS pointer: fetch"),
        (b"\x89HDF\r\n", "is not a checkpoint but an HDF5 file"),
        (b"RIFF\0\0\0\0WAVE", "is not a checkpoint but audio"),
        (b"PK\3\4 cut off", "is damaged or no checkpoint of PyTorch: "),
        (b"\x80\x02}q\x00X\x05", "is damaged or no checkpoint of PyTorch: "),
        (b"epoch,loss\n1,2\n", "is damaged or no checkpoint of PyTorch: "),
        (b"\x00\x01\x02\x03", "is damaged or no checkpoint of PyTorch: Weights only load failed"),
    ],
)
def test_a_wrong_file_is_told_by_what_it_looks_like(tmp_path, data, message):
    path = tmp_path / "c.pt"
    path.write_bytes(data)
    text = refused(path, call=bundle.read_checkpoint)
    assert text.startswith(f"{path}: {message}") and "In PyTorch" not in text  # its advice is not for users


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2), "holds a Tensor, where named tensors are expected"),
        ({}, "its keys are none"),
        ({"a": torch.ones(1), "step": 3}, "its keys are a, step"),
    ],
)
def test_a_checkpoint_without_named_tensors_is_told(tmp_path, value, message):
    torch.save(value, tmp_path / "c.pt")
    assert refused(tmp_path / "c.pt", call=bundle.read_checkpoint).endswith(message)
    assert refused(tmp_path, call=bundle.read_checkpoint) == f"{tmp_path}: Is a directory"


def test_a_script_is_told_apart_from_a_checkpoint(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(1, 1)), tmp_path / "s.pt")
    assert "is a TorchScript program" in refused(tmp_path / "s.pt", call=bundle.read_checkpoint)
