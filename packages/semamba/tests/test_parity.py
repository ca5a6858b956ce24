"""The network computes what the original computes, on weights that both fill alike."""

import pytest
import torch
import torch.nn.functional as F
from audio_core.testing import close
from audio_semamba import original
from audio_semamba.config import SEMambaConfig
from audio_semamba.layers import Encoder, MagnitudeDecoder, PhaseDecoder
from audio_semamba.mamba import MambaBlock, Mixer, TFBlock
from audio_semamba.model import SEMamba
from audio_semamba.scan import causal_conv_silu

# Where the layers of the small cases are within the generator: its prefix in our names and in the original's.
PLACES = {
    "dense_encoder": ("encoder.", "dense_encoder."),
    "mag_decoder": ("magnitude_decoder.", "mask_decoder."),
    "phase_decoder": ("phase_decoder.", "phase_decoder."),
    "mamba": ("blocks.0.time.mixers.0.", "TSMamba.0.time_mamba.forward_blocks.0.mixer."),
    "mamba_block": ("blocks.0.time.", "TSMamba.0.time_mamba."),
    "tfmamba_block": ("blocks.0.", "TSMamba.0."),
}


def fill(layer, case, name):
    """Load a case's weights into a layer of ours, which may have some more that the case does not need."""
    ours, theirs = PLACES[name]
    state = {theirs + key: tensor for key, tensor in case.state().items()}
    pairs = {key: names for key, names in original.names(1).items() if key.startswith(ours) and names[0] in state}
    tensors = {key.removeprefix(ours): tensor for key, tensor in original.renamed(state, pairs)}
    missing, unexpected = layer.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert set(missing) <= {"norm", "project.weight", "project.bias"}
    return layer.eval()


def near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance


@pytest.fixture
def filled_layer(stored_case):
    return lambda layer, name: (stored_case(name), fill(layer, stored_case(name), name))


@torch.no_grad()
def test_the_encoder_equals_the_original(filled_layer):
    case, encoder = filled_layer(Encoder(2, 16, 4), "dense_encoder")
    first = encoder.first(case.inputs["x"])
    near(first, case.outputs["conv1"], 1e-5)
    near(encoder.dense(first), case.outputs["dense_block"], 1e-5)
    near(encoder(case.inputs["x"]), case.outputs["y"], 1e-5)


@torch.no_grad()
def test_the_magnitude_decoder_equals_the_original(filled_layer):
    case, decoder = filled_layer(MagnitudeDecoder(16, 4, 201, 2.0), "mag_decoder")
    near(decoder(case.inputs["x"]), case.outputs["y"], 1e-5)
    near(decoder.logits(decoder.dense(case.inputs["x"])), case.outputs["before_sigmoid"], 1e-5)


@torch.no_grad()
def test_the_phase_decoder_equals_the_original(filled_layer):
    case, decoder = filled_layer(PhaseDecoder(16, 4), "phase_decoder")
    vector = decoder(case.inputs["x"])
    near(vector[:, :1], case.outputs["real"], 1e-5)
    near(vector[:, 1:], case.outputs["imag"], 1e-5)


@torch.no_grad()
def test_a_mixer_equals_the_original(filled_layer):
    case, mixer = filled_layer(Mixer(24, 16, 4, 4), "mamba")
    projected, out = mixer.in_proj(case.inputs["x"]), case.outputs
    u = causal_conv_silu(projected[..., :96], mixer.conv_weight, mixer.conv_bias)
    close(u, out["conv_silu"])
    delta, B, C = mixer.select(u)
    close(delta, out["dt"])
    close(torch.cat([B, C], -1), out["x_proj"][..., 2:])
    close(mixer.out_proj(mixer(projected)), out["y"])


@torch.no_grad()
def test_both_directions_equal_the_original(filled_layer):
    case, block = filled_layer(MambaBlock(16, 16, 4, 4, 1e-5), "mamba_block")
    x = case.inputs["x"]
    normed = F.rms_norm(x, (16,), None, 1e-5)
    close(normed * block.mixers[0].norm, case.outputs["norm"])
    forward, backward = (mixer.out_proj(mixer(mixer.in_proj(normed * mixer.norm))) + x for mixer in block.mixers)
    close(forward, case.outputs["forward_mixer_plus_residual"])
    close(torch.cat([forward, backward], -1), case.outputs["y"])
    close(block(x), x + block.project(case.outputs["y"]))  # by products of weights


@torch.no_grad()
def test_a_tf_block_equals_the_original(filled_layer):
    case, block = filled_layer(TFBlock(16, 16, 4, 4, 1e-5), "tfmamba_block")
    y = block(case.inputs["x"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    close(y, case.outputs["y"])


@pytest.mark.parametrize(("name", "channels", "blocks"), [("generator_small", 16, 2), ("generator_advanced", 64, 4)])
@torch.no_grad()
def test_the_generator_equals_the_original(stored_case, name, channels, blocks):
    """From the stored spectrogram on: frame 0 is real, and the sign of its phases is rounding noise of the FFT."""
    case = stored_case(name)
    model = SEMamba(SEMambaConfig(channels=channels, blocks=blocks)).eval()
    model.load_state_dict(dict(original.renamed(case.state(), original.names(blocks))))
    out, taps = case.outputs, {}
    for at, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _, x, y, at=at: taps.update({at: (x[0], y)}))
    estimate = model(out["noisy_mag"], out["noisy_pha"])
    near(estimate.magnitude, out["mag"], 1e-5)
    near(estimate.parts, out["com"], 5e-4)
    close(_thinned(taps[0][0], channels), out["encoder_sub"], 6e-6)
    for at in range(blocks):
        close(_thinned(taps[at][1], channels), out[f"block{at}_sub"], 6e-6)
    audio = model.stft.inverse(estimate.magnitude, estimate.phase, None) / out["norm_factor"]
    near(audio, out["wav_out"], 2e-6)


def _thinned(x, channels):
    """(B, T, bands, C) as the case stores it"""
    return x.permute(0, 3, 1, 2)[:, :: channels // 4, ::8, ::5]
