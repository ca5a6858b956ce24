"""Audio as stable-audio-tools prepares it, and its pieces of long audio beside ours."""

from fractions import Fraction

import pytest
import torch
from audio_codec_vae import model_config
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_codec_vae.original import checkpoint_of, filled
from audio_codec_vae.prepare import prepared
from audio_core import chunk
from audio_core.files import InputError
from audio_core.testing import close, noise


@pytest.fixture
def model(stored_case):
    """A stereo model of 16 kHz with frames of 32 samples."""
    case = stored_case("preprocess")
    data = {"model_type": "autoencoder", **{key: case.config[key] for key in ("sample_rate", "model")}}
    return Autoencoder(model_config.understood(data).model)


def test_recordings_are_prepared_as_by_the_original(stored_case, model):
    case = stored_case("preprocess")
    names = ("a", "b", "c")
    recordings, rates = [case.inputs[name] for name in names], [case.config["sources"][name] for name in names]
    close(prepared(recordings, rates, model), case.outputs["batch"])
    close(prepared(recordings[:1], rates[0], model), case.outputs["single"])
    assert torch.equal(prepared([recordings[0][None]], 16000, model), prepared(recordings[:1], 16000, model))


def test_channels_follow_stated_rules(model):
    three = noise(channels=3, seconds=0.01)
    assert torch.equal(prepared([three], 16000, model)[0, :, :160], three[:2])
    assert torch.equal(prepared([three[0]], 16000, model)[0, :, :160], three[:1].expand(2, -1))
    model.channels = 1
    close(prepared([three], 16000, model)[0, :, :160], three.mean(0, keepdim=True))
    model.channels = 3
    with pytest.raises(InputError, match="has 2 channels, which cannot become 3"):
        prepared([three[:2]], 16000, model)


def test_wrong_recordings_are_one_clear_line(model):
    with pytest.raises(InputError, match="rates: 2 for 1 recordings"):
        prepared([noise()], [8000, 8000], model)
    with pytest.raises(InputError, match="rates: 0 for 0 recordings"):
        prepared([], 8000, model)
    with pytest.raises(InputError, match=r"recordings\[1\]: has the shape \(2, 1, 5\)"):
        prepared([noise(), torch.zeros(2, 1, 5)], 8000, model)
    with pytest.raises(InputError, match=r"recordings\[0\]: holds NaN"):
        prepared([noise() / 0], 8000, model)


# --- pieces ------------------------------------------------------------------------------------------------


@pytest.fixture
def chunked(stored_case):
    case = stored_case("chunked")
    data = {"model_type": "autoencoder", **{key: case.config[key] for key in ("sample_rate", "model")}}
    return case, filled(checkpoint_of("case", case.state()), model_config.understood(data).model)


def pasted(run, x, size, overlap, unit, ratio):
    """The original's rule: windows every size - overlap units, the last one at the end, half an overlap of each cut."""
    total, hop, half = x.shape[-1] // unit, size - overlap, overlap // 2
    starts = [*range(0, total - size + 1, hop)]
    starts += [total - size] if starts[-1] != total - size else []
    result, last = None, len(starts) - 1
    for at, start in enumerate(starts):
        y = run(x[..., start * unit : (start + size) * unit])
        left, right = (0 if at == 0 else half), (size if at == last else size - half)
        result = y.new_zeros(*y.shape[:-1], int(total * ratio)) if result is None else result
        result[..., int((start + left) * ratio) : int((start + right) * ratio)] = y[
            ..., int(left * ratio) : int(right * ratio)
        ]
    return result


@torch.no_grad()
def test_the_original_s_windows_give_its_numbers(chunked):
    case, model = chunked
    for size, overlap in case.config["chunks"]:
        name = f"{size}_{overlap}"
        if f"encode_{name}" in case.outputs:
            latents = pasted(model.encode, case.inputs["x"], size, overlap, model.hop, 1)
            close(latents, case.outputs[f"encode_{name}"], case.tolerance(f"encode_{name}"))
        audio = pasted(model.decode, case.inputs["z"], size, overlap, 1, model.hop)
        close(audio, case.outputs[f"decode_{name}"], case.tolerance(f"decode_{name}"))


@torch.no_grad()
def test_our_pieces_give_the_numbers_of_the_whole(chunked):
    """Without an overlap that somebody chose: the receptive field says what is needed."""
    case, model = chunked
    samples, frames = model.receptive_field
    margin = -(-samples // model.hop)
    options = {"overlap": 0, "margin": margin * model.hop, "ratio": Fraction(1, model.hop)}
    latents = chunk.process(model.encode, case.inputs["x"], (2 * margin + 8) * model.hop, **options)
    close(latents, case.outputs["encode_full"], case.tolerance("encode_full"))
    options = {"overlap": 0, "margin": frames, "ratio": model.hop}
    audio = chunk.process(model.decode, case.inputs["z"], 2 * frames + 8, **options)
    close(audio, case.outputs["decode_full"], case.tolerance("decode_full"))
    assert len([*chunk.pieces([case.inputs["z"]], 2 * frames + 8, 8)]) > 2
