"""The generator as a module: inference, training, streams, bundles."""

import pytest
import torch
from audio_core.files import InputError
from audio_core.testing import check_bundle, check_causal, close, noise, tone
from audio_semamba.config import SEMambaConfig
from audio_semamba.model import SEMamba

SMALL = {"channels": 8, "blocks": 1, "state": 4, "expand": 2}
KINDS = {
    "original": SEMambaConfig(**SMALL),
    "correction": SEMambaConfig(**SMALL, phase="correction"),
    "causal": SEMambaConfig(**SMALL, phase="correction", causal=True),
    "causal_absolute": SEMambaConfig(**SMALL, causal=True),
}


def built(kind: str) -> SEMamba:
    """With statistics in its norms that are not those of the start."""
    torch.manual_seed(1)
    model = SEMamba(KINDS[kind])
    with torch.no_grad():
        model(*spectrum(model, noise(seconds=0.2)))
    return model.eval()


@pytest.fixture(params=KINDS)
def model(request) -> SEMamba:
    return built(request.param)


@pytest.fixture
def causal() -> SEMamba:
    return built("causal")


def spectrum(model, audio):
    noisy = model.stft(audio)
    return noisy.magnitude, noisy.phase


def streamed(model, audio, sizes):
    """The estimate, from pieces of these numbers of frames, over and over."""
    magnitude, phase = spectrum(model, audio)
    state, parts, at = model.start(len(audio)), [], 0
    while at < magnitude.shape[-1]:
        size = sizes[len(parts) % len(sizes)]
        part, state = model.stream(magnitude[..., at : at + size], phase[..., at : at + size], state)
        parts.append(part)
        at += size
    return torch.cat([part.magnitude for part in parts], -1), torch.cat([part.phase for part in parts], -1)


@pytest.mark.parametrize("samples", [1, 150, 201, 4321])
def test_enhancing_keeps_the_length(model, samples):
    audio = noise(seconds=1, channels=2)[:, :samples]
    enhanced = model.enhance(audio)
    assert enhanced.shape == audio.shape
    assert enhanced.isfinite().all()


def test_silence_stays_silence(model):
    assert model.enhance(torch.zeros(1, 3000)).abs().max() < 1e-6


def test_enhancing_ignores_the_level(model):
    audio = tone(seconds=0.3) + noise(seconds=0.3)
    close(model.enhance(audio / 64), model.enhance(audio) / 64, 1e-3)  # a power of 2 rounds nothing


def test_estimates_agree_with_themselves(model):
    estimate = model(*spectrum(model, noise(seconds=0.2)))
    assert torch.all(estimate.magnitude <= model.config.beta * spectrum(model, noise(seconds=0.2))[0])
    close(torch.view_as_real(torch.polar(estimate.magnitude, estimate.phase)), estimate.parts)


def test_items_of_a_batch_do_not_mix(model):
    audio = noise(seconds=0.2, channels=2)
    close(model.enhance(audio)[1:], model.enhance(audio[1:]), 1e-4)


def test_every_weight_learns(model):
    estimate = model.train()(*spectrum(model, noise(seconds=0.2)))
    (estimate.parts.square().sum() + estimate.parts.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_checkpointing_changes_no_gradient(model):
    inputs = spectrum(model, noise(seconds=0.1))
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        model(*inputs).parts.square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


def test_training_and_inference_agree(model):
    """Inference scans some rows at a time."""
    inputs = spectrum(model, noise(seconds=0.2))
    trained = model(*inputs)
    with torch.no_grad():
        close(model(*inputs).parts, trained.parts, 1e-4)


def test_half_precision_stays_close(model):
    inputs = spectrum(model, tone(seconds=0.2) + noise(seconds=0.2))
    exact = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(*inputs)
    assert {value.dtype for value in half} == {torch.float32}
    assert (half.magnitude - exact.magnitude).abs().max() < 0.1


@pytest.mark.parametrize("kind", ["original", "causal"])  # phases are among the settings that are tried out
def test_bundles_keep_everything(kind, tmp_path):
    check_bundle(SEMamba(KINDS[kind]), tmp_path / "bundle")


@pytest.mark.parametrize("kind", ["causal", "causal_absolute"])
@pytest.mark.parametrize("sizes", [[1], [2], [7], [1000], [3, 1, 10, 5]])
@torch.no_grad()
def test_streams_equal_the_whole(kind, sizes):
    model = built(kind)
    audio = tone(seconds=0.5, channels=2) + noise(seconds=0.5, channels=2)
    magnitude, phase = streamed(model, audio, sizes)
    whole = model(*spectrum(model, audio))
    close(magnitude, whole.magnitude, 1e-5)
    enhanced = model.stft.inverse(magnitude, phase, audio.shape[-1])
    close(enhanced, model.stft.inverse(whole.magnitude, whole.phase, audio.shape[-1]), 1e-5)


@torch.no_grad()
def test_a_running_level_outlasts_its_window(causal):
    """Its sums run in pieces of 256 frames."""
    magnitude = 1 + noise(seconds=0.05, channels=201)[None]  # 800 frames
    whole, _ = causal.level(magnitude)
    state, gains = causal.level.start(1), []
    for piece in magnitude.split(7, -1):
        gain, state = causal.level(piece, state)
        gains.append(gain)
    close(torch.cat(gains, -1), whole)
    power = (magnitude.double() ** (2 / 0.3)).mean(1) / causal.level.power_of_one
    weights = torch.exp(-torch.arange(800).flip(0).double() / 320)
    level = (power * weights).sum() / weights.sum()
    close(whole[..., -1], level.pow(-0.15).float().reshape(1, 1))


@torch.no_grad()
def test_causal_models_see_no_future(causal):
    magnitude, phase = spectrum(causal, noise(seconds=0.3))
    check_causal(lambda x: causal(x, phase).magnitude, magnitude, 20)
    check_causal(lambda x: causal(magnitude, x).phase, phase, 20)


def test_a_causal_model_in_training_mode_does_not_enhance(causal):
    before = {name: value.clone() for name, value in causal.state_dict().items()}
    causal.train()
    for act in (causal.start, lambda: causal.enhance(noise(seconds=0.1))):
        with pytest.raises(InputError, match=r"call model\.eval"):
            act()
    assert all(torch.equal(value, before[name]) for name, value in causal.state_dict().items())


def test_other_models_do_not_stream():
    with pytest.raises(ValueError, match="causal"):
        SEMamba(KINDS["original"]).start()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"n_fft": 402}, "multiple of 4"),
        ({"blocks": 0}, "blocks"),
        ({"compress": 0.0}, "compress"),
        ({"hop": 500}, "hop"),
        ({"hop": 300, "causal": True}, "at most n_fft / 2"),
    ],
)
def test_impossible_settings_are_named(setting, text):
    with pytest.raises(ValueError, match=text):
        SEMambaConfig(**setting)
