"""Bundles: a model comes back as it was, from a folder or the Hub; what is wrong with one is one line."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest
import safetensors.torch
import torch
from audio_core import bundle, weights
from audio_core.files import InputError
from audio_core.testing import refuses_mutations
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import nn

from .bundle_toys import CARD, Awkward, Front, Net, make, refused


@pytest.fixture
def folder(tmp_path):
    make(tmp_path / "made")
    return tmp_path / "made"


def edit(folder, **changes):
    path = folder / "config.json"
    head = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in head.items() if value is not ...}))


# --- round trip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Net, Awkward])
def test_a_loaded_bundle_computes_what_was_saved(tmp_path, cls, capsys):
    model = make(tmp_path / "b", cls).eval()
    loaded = bundle.load(tmp_path / "b", [Net, Awkward], "audio_x")
    x = torch.randn(2, 1, 9)
    assert torch.equal(loaded(x), model(x))
    assert type(loaded) is cls and not loaded.training
    assert loaded.config == Net.Config(Front((3, 3)))
    assert capsys.readouterr().out == ""


def test_a_config_is_read_as_strictly_as_by_loading_but_without_the_weights(folder):
    (folder / "model.safetensors").unlink()
    assert bundle.load_config(folder, [Net], "audio_x") == Net.Config(Front((3, 3)))
    assert "was made by audio-x, not by audio_y" in refused(folder, [Net], "audio_y", call=bundle.load_config)
    edit(folder, config={"bias": 2})
    assert "bias: expected bool, got 2" in refused(folder, [Net], call=bundle.load_config)
    assert "File name too long" in refused("x" * 5000, [Net], call=bundle.load_config)


def test_a_bundle_is_the_three_files_of_the_hub(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(bundle.FILES)
    assert json.loads((folder / "config.json").read_text()) == {
        "format": 1,
        "package": "audio-x",
        "class": "Net",
        "version": "0.1.0",
        "config": {"front": {"widths": [3, 3], "act": "no"}, "bias": True},
    }


def test_tied_weights_are_stored_once_and_tied_again(folder):
    stored = load_file(folder / "model.safetensors")
    assert "inner.weight" in stored and "outer.weight" not in stored and "window" not in stored
    loaded = bundle.load(folder, {"Net": Net})
    assert loaded.inner.weight is loaded.outer.weight


def test_loading_draws_nothing_from_the_global_generator(folder):
    before = torch.get_rng_state()
    bundle.load(folder, [Net])
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_are_written_as_safetensors_writes_them_but_without_a_second_copy(tmp_path):
    model = Net(Net.Config())
    for at, dtype in enumerate((torch.bool, torch.uint8, torch.float16, torch.bfloat16, torch.float64, torch.int64)):
        model.register_buffer(f"more{at}", torch.ones(() if at % 2 else (3, at), dtype=dtype))
    model.register_buffer("turned", torch.randn(4, 5).mT)
    weights.save_weights(model, tmp_path / "a.safetensors")
    tensors = {name: tensor for name, tensor in model.state_dict().items() if name != "outer.weight"}
    whole = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    assert (tmp_path / "a.safetensors").read_bytes() == safetensors.torch.save(whole, {"format": "pt"})

    large = nn.ModuleList(nn.Linear(1000, 500, bias=False) for _ in range(8))
    tracemalloc.start()
    weights.save_weights(large, tmp_path / "b.safetensors", {"evaluation": '{"ü": 1}'})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6  # of 16 MB
    assert load_file(tmp_path / "b.safetensors").keys() == large.state_dict().keys()
    assert weights.metadata(tmp_path / "b.safetensors") == {"format": "pt", "evaluation": '{"ü": 1}'}


def test_views_of_one_storage_can_be_saved(tmp_path):
    model = Net(Net.Config())
    table = torch.arange(4.0)
    model.mean, model.more = table[:2], nn.Buffer(table[2:])
    bundle.save(model, tmp_path / "b", "audio-x", "1", CARD)
    assert load_file(tmp_path / "b" / "model.safetensors")["more"].tolist() == [2, 3]


def test_saving_replaces_a_bundle_only_when_told_and_nothing_else_ever(tmp_path, folder):
    assert "exists already" in refused(Net(Net.Config()), folder, "p", "1", CARD, call=bundle.save)
    bundle.save(Net(Net.Config(bias=False)), folder, "p", "1", CARD, force=True)
    assert not bundle.load(folder, [Net]).config.bias
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")
    (folder / "thesis.tex").write_text("x")
    text = refused(Net(Net.Config()), folder, "p", "1", CARD, force=True, call=bundle.save)
    assert text == f"{folder}: holds thesis.tex, which no bundle does; choose another folder"
    assert (folder / "thesis.tex").exists()


def test_a_failed_save_leaves_the_old_bundle_and_no_litter(tmp_path, folder, monkeypatch):
    opens = Path.open

    def full_disk(path, *arguments, **settings):
        if path.suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        return opens(path, *arguments, **settings)

    monkeypatch.setattr(Path, "open", full_disk)
    text = refused(Net(Net.Config()), folder, "p", "1", CARD, force=True, call=bundle.save)
    assert text == f"{folder}: cannot be written: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert bundle.load(folder, [Net]).config.front.widths == (3, 3)


def test_a_model_must_keep_the_config_of_its_class(tmp_path):
    model = Net(Net.Config())
    model.config = {"bias": True}
    with pytest.raises(ValueError, match=r"Net.config is not a Net.Config"):
        bundle.save(model, tmp_path / "b", "p", "1", CARD)


def test_the_card_is_markdown_with_a_header_that_the_hub_reads():
    from audio_core.config import parse

    _, header, text = CARD.split("---\n", 2)
    assert parse(header, "card") == {"license": "mit", "tags": ["audio", "speech"]}
    assert text.startswith("\n# Tiny | net\n\nDoubles audio.\n")
    assert "| SI-SDR (dB) | 8.912 |\n| a\\|b | – |\n| set | dev |\n" in text
    assert "```python\nimport audio_x\nmodel = audio_x.load('o/n')\n```" in text


# --- what may be wrong with a bundle ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2 is newer than 1, which this version reads; upgrade audio-x"),
        ({"format": "1"}, "format: expected 1, got '1'"),
        ({"format": True}, "format: expected 1, got True"),
        ({"format": ...}, "not a bundle's; it looks like one with package, class, version and 1 more"),
        ({"class": "Nett"}, "class 'Nett' is unknown; known: Net"),
        ({"class": []}, "class [] is unknown; known: Net"),
        ({"version": ...}, "version missing; expected format, package, class, version, config"),
        ({"extra": 1}, "unknown key extra; expected format, package, class, version, config"),
        ({"package": "audio-y"}, "was made by audio-y, not by audio-x"),
        ({"config": {"bia": True}}, "unknown key bia; did you mean bias?"),
        ({"config": {"front": {"widths": [4, "x"]}}}, "front.widths[1]: expected int, got 'x'"),
        ({"config": None}, "recipe: expected keys and values for Net, got None"),
    ],
)
def test_a_wrong_head_is_one_line(folder, changes, message):
    edit(folder, **changes)
    assert refused(folder, [Net], "audio-x") == f"{folder / 'config.json'}: {message}"


@pytest.mark.parametrize(
    ("foreign", "like"),
    [
        ({"architectures": ["Wav2Vec2"], "model_type": "wav2vec2"}, "of a transformers model"),
        ({"_class_name": "AutoencoderOobleck"}, "of a diffusers model"),
        ({"model_type": "autoencoder", "model": {}}, "of a model of transformers or stable-audio-tools"),
        ([1], "of something else"),
    ],
)
def test_a_foreign_config_is_told_by_what_it_looks_like(folder, foreign, like):
    (folder / "config.json").write_text(json.dumps(foreign))
    assert refused(folder, [Net]) == f"{folder / 'config.json'}: not a bundle's; it looks like one {like}"


def test_weights_that_do_not_fit_are_named_and_counted(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["conv.bias"], tensors["mean"]
    tensors |= {f"extra.{i}": torch.zeros(1) for i in range(5)} | {"inner.weight": torch.zeros(3, 2)}
    save_file(tensors, path)
    assert refused(folder, [Net]) == (
        f"{path}: does not fit Net: 2 missing (mean, conv.bias), 5 unexpected (extra.0, extra.1, extra.2 and 2 more), "
        "1 of another shape (inner.weight (3, 2) for (3, 3))"
    )


def test_a_config_that_asks_for_too_much_is_refused_before_memory_is_taken(folder):
    edit(folder, config={"front": {"widths": [3, 10**9]}})
    assert "holds far fewer weights than its configuration describes" in refused(folder, [Net])


def test_strange_numbers_in_a_config_are_one_line(folder):
    refuses_mutations(folder, lambda path: bundle.load(path, [Net]))


def test_a_config_that_cannot_be_built_is_one_line(folder):
    edit(folder, config={"front": {"widths": [3]}})
    assert "Net cannot be built: not enough values to unpack" in refused(folder, [Net])


def test_damaged_weights_are_one_line(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:20], b"", b"junk" * 100, struct.pack("<Q", 1 << 62) + whole[8:], whole + b"x"):
        path.write_bytes(data)
        assert refused(folder, [Net]).startswith(f"{path}: is damaged or not safetensors: ")
    path.unlink()
    assert refused(folder, [Net]) == f"{path}: is missing"


def test_pickles_are_refused_with_the_way_out(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({}, path)
    assert refused(path, [Net]) == f"{path}: a checkpoint, not a bundle; use `convert`"
    text = f"{tmp_path}: a checkpoint (pytorch_model.bin), not a bundle; use `convert`"
    assert refused(tmp_path, [Net]) == text


def test_what_is_no_bundle_is_told_by_what_it_is(tmp_path, folder):
    assert refused(tmp_path / "none", [Net]).endswith("there is no such folder, and a Hub id looks like owner/name")
    assert refused("x" * 300, [Net]).endswith(": File name too long")
    assert refused("x/y.ckpt", [Net]).startswith("x/y.ckpt: there is no such folder")
    assert refused(folder / "config.json", [Net]).endswith(
        "is a file; a bundle is a folder with " + ", ".join(bundle.FILES)
    )
    assert refused(tmp_path, [Net]) == f"{tmp_path}: is not a bundle: it holds no config.json"
    (tmp_path / "recipe.yaml").write_text("")
    assert refused(tmp_path, [Net]) == f"{tmp_path}: is a training run; `export` it first"
    assert refused(folder, [Net], device="cuda:99").startswith("device cuda:99: cannot be used: ")


# --- the Hub ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The Hub's cache with one model in it, and no network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "hub" / "models--owner--name"
    make(model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return model


def test_an_id_is_loaded_from_the_hubs_cache(cache, capsys):
    assert bundle.load("owner/name", [Net]).config.front.widths == (3, 3)
    commit = (cache / "refs" / "main").read_text()
    assert bundle.download(f"owner/name@{commit}") == cache / "snapshots" / commit
    assert capsys.readouterr().out == ""


def test_a_folder_of_the_same_name_wins_over_the_hub(cache, tmp_path):
    make(tmp_path / "owner" / "name", bias=False)
    assert not bundle.load("owner/name", [Net]).config.bias


def test_an_id_that_cannot_be_had_is_one_line_with_its_name(cache):
    why = "no such folder; as a Hub id it is not in the cache, and the Hub cannot be reached"
    assert refused("owner/other", [Net]) == f"owner/other: {why}"
    assert refused("owner/name@v9", [Net]) == f"owner/name@v9: {why}"
    assert refused("owner--x/..", call=bundle.download).startswith("owner--x/..: cannot be fetched from the Hub: ")


def test_a_config_that_describes_a_giant_is_stopped_while_it_is_built(tmp_path):
    class Deep(nn.Module):
        @dataclass(frozen=True)
        class Config:
            layers: int = 2

        def __init__(self, config):
            super().__init__()
            self.config = config
            self.net = nn.ModuleList(nn.Linear(4, 4) for _ in range(config.layers))

    bundle.save(Deep(Deep.Config()), tmp_path / "deep", "p", "1", CARD)
    assert bundle.load(tmp_path / "deep", [Deep]).config.layers == 2
    path = tmp_path / "deep/config.json"
    path.write_text(path.read_text().replace('"layers": 2', '"layers": 1000000000'))
    assert "holds far fewer weights than its configuration describes" in refused(tmp_path / "deep", [Deep])


def test_a_model_is_loaded_without_pytorch_s_compiler(tmp_path):
    """Its import takes longer than PyTorch's own, and came with random values and weight norm on the device "meta"."""
    program = (
        "import sys, torch\nfrom torch import nn\nfrom audio_core.weights import no_values\n"
        "with no_values():\n    net = nn.Linear(3, 4)\n"
        "    normed = nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5))\n"
        "    nn.init.kaiming_normal_(net.weight)\n    nn.init.uniform_(net.bias)\n"
        "assert net.weight.is_meta and net.weight.shape == (4, 3)\n"
        "assert normed.parametrizations.weight.original0.shape == (4, 1, 1)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    paths = os.pathsep.join(sys.path)
    child = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths})
    assert child.returncode == 0


def test_a_name_that_no_folder_can_have_is_one_line():
    with pytest.raises(InputError, match="File name too long"):
        bundle.describe("x" * 5000)
