"""The codecs compute what the original programs computed, on weights that both fill alike."""

import pytest
import torch
import torch.nn.functional as F
from audio_core import command
from audio_core.nn.quantize import ResidualQuantizer
from audio_soundstream import original
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig, bitrates
from audio_soundstream.model import SoundStream, TinyStream
from audio_soundstream.recipe import Recipe

CASES = ["ss_small", "ss_default", "ss_c16_d256", "ts_ultra_tiny", "ts_tiny", "ts_medium", "ts_full"]


def near(found, expected, tolerance=1e-4):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


def original_forward(model, audio):
    """The output of the original's `forward` for audio (B, 1, T).

    TinyStream drops the samples that do not fill a frame and cuts the middle out of its decoder's output, so that most
    lengths come back shifted.
    """
    tiny = type(model).__name__ == "TinyStream"
    output = model.decoder(model.from_codes(model.quantizer.codes(model.encoder(audio))))
    begin = max(0, (output.shape[-1] - audio.shape[-1]) // 2) if tiny else 0
    output = output[..., begin : begin + audio.shape[-1]]
    return F.pad(output, (0, audio.shape[-1] - output.shape[-1]))


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_codec_equals_the_original(stored, name):
    case, model = stored(name)
    x, out = case.inputs["x"], case.outputs
    latents = model.encoder(x)  # TinyStream's original pads no last frame
    near(latents, out["z"])
    codes = model.quantizer.codes(latents)
    assert torch.equal(codes, out["codes"])
    near(model.from_codes(codes), out["quantized"])
    quantised = model.quantizer(latents)
    assert torch.equal(quantised.codes, out["codes"])
    near(0.25 * quantised.losses.sum(), out["commitment_loss"])
    near(model.decoder(model.from_codes(codes)), out["audio_decode"])
    near(original_forward(model, x), out["recon_forward"])
    if "audio_decode_partial" in out:
        few = model.from_codes(codes[:, : case.config["partial_quantizers"]])
        near(model.decoder(few), out["audio_decode_partial"])


@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny"])
@torch.no_grad()
def test_every_block_equals_the_original(stored, name):
    case, model = stored(name)
    for side, prefix in ((model.encoder, "enc"), (model.decoder, "dec")):
        x = case.inputs["x"] if prefix == "enc" else case.outputs["quantized"]
        for part, layer in side.named_children():
            x = layer(x)
            label = {"first": "initial", "activation": "initial"}.get(part, part)
            wanted = case.outputs.get(f"{prefix}_{label}")
            if wanted is not None and not (part == "first" and hasattr(side, "activation")):
                near(x, wanted)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_whole_frames_are_coded_as_the_original_codes_them(stored, name):
    case, model = stored(name)
    whole = case.inputs["x"][..., : case.inputs["x"].shape[-1] // model.hop * model.hop]
    assert torch.equal(model.codes(whole), model.quantizer.codes(model.encoder(whole)))
    assert model.decode(model.encode(whole)).shape == whole.shape


@torch.no_grad()
def test_the_quantizer_equals_the_original_with_any_number_of_layers(stored_case):
    case = stored_case("rvq_eval")
    quantizer = ResidualQuantizer(16, 4, 64).eval()
    quantizer.load_codebooks(torch.stack([case.state()[f"quantizers.{n}.embeddings.weight"] for n in range(4)]))
    z = case.inputs["z"]
    codes = quantizer.codes(z)
    assert torch.equal(codes, case.outputs["codes"])
    near(quantizer.from_codes(codes), case.outputs["decode_indices"])
    losses = quantizer(z).losses
    for count in range(1, 5):
        assert torch.equal(quantizer.codes(z, count), codes[:, :count])
        near(quantizer(z, torch.tensor([count, count])).latents, case.outputs[f"quantized_{count}"])
        near(0.25 * losses[:count].sum(), case.outputs[f"commitment_loss_{count}"])


@torch.no_grad()
def test_the_quantizer_equals_the_library_that_teaches_it(stored_case):
    case = stored_case("rvq_vector_quantize_pytorch")
    quantizer = ResidualQuantizer(16, 4, 64).eval()
    quantizer.load_codebooks(torch.stack([case.state()[f"layers.{n}._codebook.embed"][0] for n in range(4)]))
    codes = quantizer.codes(case.inputs["x"].transpose(1, 2))
    assert torch.equal(codes.transpose(1, 2), case.outputs["indices"])
    near(quantizer.from_codes(codes).transpose(1, 2), case.outputs["quantized"])


def test_moving_codebooks_learn_as_the_original(stored_case):
    case = stored_case("rvq_ema_steps")
    quantizer = original.MovingQuantizer(8, 3, 24).train()
    quantizer.codebooks.copy_(case.inputs["codebooks"])
    for step, batch in enumerate(case.inputs["batches"]):
        x = batch.clone().requires_grad_()
        latents, codes, losses = quantizer(x)
        loss = 0.25 * losses.sum()
        (loss + (latents * case.inputs["cotangent"]).sum()).backward()
        wanted = {name[6:]: value for name, value in case.outputs.items() if name.startswith(f"step{step}_")}
        assert torch.equal(codes, wanted["codes"])
        near(latents, wanted["quantized"])
        near(loss, wanted["commitment_loss"])
        near(x.grad, wanted["grad_x"])
        near(quantizer.codebooks, wanted["codebooks"])
        near(quantizer.counts, wanted["ema_cluster_size"])
        near(quantizer.sums, wanted["ema_w"])


def test_codebooks_follow_gradients_as_the_original(stored_case):
    case = stored_case("tiny_rvq_grads")
    quantizer = original.GradientQuantizer(8, 3, 20).train()
    quantizer.load_codebooks(case.inputs["codebooks"])
    z = case.inputs["z"].clone().requires_grad_()
    latents, codes, losses = quantizer(z)
    loss = 0.25 * losses.sum()
    (loss + (latents * case.inputs["cotangent"]).sum()).backward()
    assert torch.equal(codes, case.outputs["codes"])
    near(latents, case.outputs["quantized"])
    near(loss, case.outputs["commitment_loss"])
    near(z.grad, case.outputs["grad_x"])
    near(quantizer.codebooks.grad, case.outputs["grad_codebooks"])


def test_sizes_and_rates_are_the_true_ones(stored_case):
    case = stored_case("bitrate_and_sizes")
    for row, kbps in zip(case.inputs["table"].tolist(), case.outputs["kbps"].tolist(), strict=True):
        layers, size, rate, hop = (int(value) for value in row)
        strides = {320: (2, 4, 5, 8), 256: (4, 4, 4, 4)}.get(hop)
        if strides:
            config = SoundStreamConfig(layers=layers, size=size, rate=rate, strides=strides)
            assert bitrates(config)[-1] == pytest.approx(kbps)
    for kind, cls, config in (("tiny", TinyStream, TinyStreamConfig), ("soundstream", SoundStream, SoundStreamConfig)):
        for sizes, counts in zip(case.config[kind], case.outputs[f"{kind}_params"].tolist(), strict=True):
            with torch.device("meta"):
                model = cls(config(*sizes[:2], layers=sizes[2], size=sizes[3]))
            found = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]
            assert [found[0], model.quantizer.codebooks.numel(), found[1]] == counts[:3]
            assert sum(counts[:3]) == counts[3]
    for preset, row in zip(("ultra_tiny", "tiny", "small", "medium", "full"), case.config["tiny"], strict=True):
        config = command.load_recipe(Recipe, "audio_soundstream", f"tinystream-{preset}").model
        assert [config.channels, config.width, config.layers, config.size] == row
