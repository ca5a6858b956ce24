"""ONNX files: every kind of autoencoder in another program, and the example in the page beside them."""

import json
import re
import runpy
import sys
from dataclasses import replace

import numpy as np
import onnx as files
import onnxruntime
import pytest
import torch
from audio_codec_vae import PACKAGE
from audio_codec_vae.cli import main
from audio_codec_vae.config import (
    DACRVQConfig,
    DACRVQVAEConfig,
    FSQConfig,
    L2NormConfig,
    PatchedConfig,
    RVQVAEConfig,
    SoftNormConfig,
    VAEConfig,
    WassersteinConfig,
    WaveletConfig,
)
from audio_codec_vae.export import onnx, write
from audio_core import audio
from audio_core.files import InputError
from audio_core.testing import close, noise
from torch import nn

from .toys import CONFIGS, autoencoder, built, oobleck

SMALL_DAC = {"input_dim": 4, "n_codebooks": 2, "codebook_dim": 3, "codebook_size": 8}


def nearest_with_elu():
    config = oobleck(VAEConfig(), 6, 3)
    decoder = replace(config.decoder, use_nearest_upsample=True, use_snake=False, antialias_activation=True)
    return replace(config, decoder=replace(decoder, final_tanh=True))


def conformer():
    config, settings = CONFIGS["taae"], {"use_snake": True, "use_dilated_conv": True, "conformer": True}
    encoder, decoder = (replace(each, **settings) for each in (config.encoder, config.decoder))
    return replace(config, encoder=replace(encoder, strides=(1, 3)), decoder=replace(decoder, strides=(1, 3)))


KINDS = {
    **{name: config for name, config in CONFIGS.items() if name != "taae_whole"},
    "nearest_with_elu": nearest_with_elu(),
    "conformer": conformer(),
    "deep_wavelet": oobleck(None, 3, 3, 8, pretransform=WaveletConfig(2, 2, "bior6.8"), strides=(2, 3)),
    "oversampled": oobleck(VAEConfig(), 6, 3, 8, pretransform=PatchedConfig(2, 4, 2)),
    "l2": oobleck(L2NormConfig(), 3, 3),
    "wasserstein": oobleck(WassersteinConfig(0, use_tanh=True, tanh_scale=0.1), 3, 3),
    "soft_norm": oobleck(SoftNormConfig(3, 2), 3, 5),
    "rvq_vae": oobleck(RVQVAEConfig(3, 8, 2), 6, 3),
    "late_dac": oobleck(DACRVQConfig(**SMALL_DAC, quantize_on_decode=True), 4, 4),
    "dac_vae": oobleck(DACRVQVAEConfig(**SMALL_DAC, noise_augment_dim=1), 8, 5),
    "projected_fsq": oobleck(FSQConfig((3, 8), 2, 5, 1), 5, 6),
}


@pytest.fixture(params=KINDS)
def exported(request, tmp_path):
    model = built(KINDS[request.param])
    for part in model.modules():
        if isinstance(part, nn.GroupNorm | nn.LayerNorm):  # whose weights begin with 1
            nn.init.normal_(part.weight)
            nn.init.normal_(part.bias)
    return model, tmp_path / "files", write.export(model, tmp_path / "files", "onnx")


def run(path, **inputs):
    """All outputs of a file by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    results = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return {output.name: torch.from_numpy(each) for output, each in zip(session.get_outputs(), results, strict=True)}


@torch.no_grad()
def test_files_compute_what_the_model_does_for_any_batch_and_length(exported):
    model, folder, facts = exported
    for path in folder.glob("*.onnx"):
        files.checker.check_model(path, full_check=True)
    least = facts["least_frames"]
    for batch, samples in ((3, 20 * model.hop - 1), (2, least * model.hop), (1, (least + 2) * model.hop - 1)):
        x = noise(batch, 1.0, samples, 2) * torch.arange(1.0, batch + 1)[:, None, None]
        result = run(folder / "encoder.onnx", audio=x)
        latents = model.encode(x)
        close(result["latents"], latents, 1e-4)
        if model.codebooks:
            assert torch.equal(result["codes"], model.codes(x))
            close(run(folder / "dequantizer.onnx", codes=result["codes"])["latents"], latents, 1e-5)
        close(run(folder / "decoder.onnx", latents=latents)["audio"], model.decode(latents), 1e-4)


def test_files_say_how_to_feed_them(exported):
    model, folder, facts = exported
    names = {"encoder.onnx", "decoder.onnx", "README.md"} | ({"dequantizer.onnx"} if model.codebooks else set())
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == facts["files"] and {
        *facts["files"]
    } == names
    for path in folder.glob("*.onnx"):
        stated = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert (
            stated["rate"] == "800" and stated["channels"] == "2" and stated["fingerprint"] == model.fingerprint().hex()
        )
        assert (int(stated["hop"]), int(stated["width"])) == (model.hop, model.width)
        assert tuple(json.loads(stated["codebooks"])) == model.codebooks
        assert tuple(json.loads(stated["context"])) == (model.receptive_field or ())
    page = (folder / "README.md").read_text("utf-8")
    assert f"{model.width} values for every {model.hop} samples" in page and max(map(len, page.splitlines())) <= 120
    assert ("dequantizer.onnx" in page) == ("dequantizer" in write.table(facts)) == bool(model.codebooks)
    assert ("the whole recording" in page) == (model.receptive_field is None)


@pytest.mark.parametrize("name", ["lyra", "deep_wavelet", "dac"])
def test_the_example_in_the_page_reconstructs_as_the_model_does(name, tmp_path, monkeypatch):
    model = built(KINDS[name])
    write.export(model, tmp_path / "files", "onnx")
    page = (tmp_path / "files/README.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "reconstruct.py").write_text(example, "utf-8")
    x = noise(2, 1.0, 20 * model.hop - 3, 2)
    audio.write(tmp_path / "song.wav", x.numpy(), 800)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["reconstruct.py", "files", "song.wav", "back.wav"])
    runpy.run_path("reconstruct.py", run_name="__main__")
    song = torch.from_numpy(audio.read("song.wav").samples)
    whole = nn.functional.pad(song, (0, 3))[None]
    with torch.no_grad():
        latents = model.encode(whole)
        expected = model.decode(latents)[0, :, :-3].clamp(-1, 1)
    close(torch.from_numpy(np.load("latents.npy")), latents[0], 1e-4)
    samples, rate = audio.read("back.wav")
    assert rate == 800 and samples.shape == song.shape
    assert np.abs(samples - expected.numpy()).max() < 1e-3 < expected.abs().max() / 5


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def bundle(tmp_path):
    PACKAGE.save(autoencoder("dac"), tmp_path / "toy", "# A toy")
    return tmp_path / "toy"


def test_the_command_writes_the_folder(bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = ["export", str(bundle), "--format", "onnx"]
    assert main([*line, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["path"] == "toy-onnx" and facts["codebooks"] == [8, 8, 8] and {*facts["files"]} == {*onnx.FILES}
    assert main(line) == 2 and "toy-onnx: exists already; give --force to overwrite it" in capsys.readouterr().err
    (tmp_path / "toy-onnx/thesis.txt").write_text("years of work")
    assert main([*line, "--force"]) == 2 and "holds thesis.txt, which no export does" in capsys.readouterr().err
    (tmp_path / "toy-onnx/thesis.txt").unlink()
    assert main([*line, "--force"]) == 0 and "codes of 3 codebooks" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_attention_to_the_whole_audio_is_refused(part, tmp_path):
    """In either of the two: its memory would grow with the square of the length."""
    config, whole = CONFIGS["taae"], CONFIGS["taae_whole"]
    with pytest.raises(InputError, match="takes attention with a window, and this model attends to the whole audio"):
        write.export(built(replace(config, **{part: getattr(whole, part)})), tmp_path / "files", "onnx")
    assert not list(tmp_path.iterdir())


def test_weights_beyond_what_a_file_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "_MOST_VALUES", 1000)
    with pytest.raises(InputError, match="a file holds 2 GB at most, and the encoder has"):
        write.export(autoencoder("lyra"), tmp_path / "files", "onnx")


def test_a_model_without_finite_values_is_refused(tmp_path):
    model = autoencoder("lyra")
    nn.init.constant_(model.decoder.final_projection.bias, torch.nan)
    with pytest.raises(InputError, match="gives audio that are not finite"):
        write.export(model, tmp_path / "files", "onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_what_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r'needs onnx, .*: pip install "audio-codec-vae\[onnx\]"'):
        write.export(autoencoder("lyra"), tmp_path / "files", "onnx")
    assert not list(tmp_path.iterdir())
