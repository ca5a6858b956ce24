"""The models as modules: any length, any number of sources, training, the form for inference, bundles."""

import pytest
import torch
from audio_core.files import InputError
from audio_core.testing import check_bundle, check_gradients, check_repeats, close, noise, tone
from audio_sep import PACKAGE
from audio_sep.config import SeparatorConfig
from audio_sep.models import MODELS, load
from audio_sep.models.inference import WinogradConv, for_inference
from audio_sep.models.separator import SpectrogramSeparator

STEMS = ("vocals", "drums", "other")
LEVELS = (4,) * 6
UNITS = {"UNet": 64, "UNetSubbandTime": 64, "ResUNet143": 32, "ResUNet143DecouplePlus": 64}
UNITS |= {"ResUNet143SubbandTime": 32, "MobileNetSubbandTime": 32, "ConditionalUNet": 64}


def built(name: str, widths: tuple[int, ...] = LEVELS, **settings) -> SpectrogramSeparator:
    """A narrow model in eval mode, with statistics in its norms that are not those of the start."""
    cls = MODELS[name]
    model = cls(cls.Config(sources=STEMS, widths=widths, **settings)).eval()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            layer.weight.data.uniform_(0.5, 1.5)
    return model


def asked(model: SpectrogramSeparator, audio: torch.Tensor, source: str = "drums") -> tuple[torch.Tensor, ...]:
    """What the model's forward takes: a conditional one is asked for a source."""
    if type(model).__name__ != "ConditionalUNet":
        return (audio,)
    return audio, torch.tensor([[float(name == source) for name in model.config.sources]]).expand(len(audio), -1)


class Alone(torch.nn.Module):
    """A model that takes audio alone."""

    def __init__(self, model: SpectrogramSeparator):
        super().__init__()
        self.model = model

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return self.model(*asked(self.model, audio))


def all_pass(model: SpectrogramSeparator) -> SpectrogramSeparator:
    """The mixture passes the first source as it is, and all others are silent."""
    with torch.no_grad():
        model.planes.weight.zero_()
        mask, cos, *_ = model.planes.bias.zero_().view(model.planes.rows).unbind(2)
        mask.fill_(-50)[0] = 50
        cos.fill_(3)
    return model


@pytest.fixture(params=MODELS)
def model(request) -> SpectrogramSeparator:
    return built(request.param)


@pytest.mark.parametrize("extra", [0, 1, 2, 3, 700])
@torch.no_grad()
def test_the_length_is_kept(model, extra):
    audio = noise(seconds=1, channels=2)[None, :, : model.shortest + extra]
    separated = model(*asked(model, audio))
    assert separated.shape == (1, model.planes.rows[0], *audio.shape[1:])
    assert separated.isfinite().all()


def test_audio_that_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match=f"at least {model.shortest} samples"):
        model(*asked(model, torch.zeros(1, 2, model.shortest - 1)))
    with pytest.raises(ValueError, match=r"must be \(B, 2, T\), got \(1, 1, 3000\)"):
        model(*asked(model, torch.zeros(1, 1, 3000)))


def test_the_shortest_audio_is_that_of_the_original():
    lengths = {name: MODELS[name].Config().shortest for name in MODELS}
    assert {lengths.pop(name) for name in [*lengths] if "SubbandTime" in name} == {964}
    assert {*lengths.values()} == {1025}


@pytest.mark.parametrize("length", [8000, 8001, 8002, 8003])
@torch.no_grad()
def test_the_audio_comes_back_where_the_mask_lets_it_pass(model, length):
    """But for the highest bin, which is that of each subband. Every length, to the last sample."""
    audio = tone(440, 1, 44100, 2)[None, :, :length] + 0.3 * tone(3000, 1, 44100, 2)[None, :, :length]
    separated = all_pass(model)(*asked(model, audio))
    close(separated[:, 0], audio, 0.02)
    close(separated[:, 0, :, -300:], audio[..., -300:], 0.02)
    for other in separated.unbind(1)[1:]:
        assert other.abs().max() < 1e-5


@torch.no_grad()
def test_frames_are_padded_to_what_the_original_pads_to(model):
    seen = []
    model.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    model(*asked(model, torch.zeros(1, 2, 10 * model.config.hop * model.config.bands + model.shortest)))
    unit = UNITS[type(model).__name__]
    bins = 256 if model.config.inputs == 8 else 1024
    assert seen == [(1, model.config.inputs, unit, bins)]


def test_silence_stays_silence(model):
    audio = torch.zeros(1, 2, 4000, requires_grad=True)
    separated = model(*asked(model, audio))
    assert not separated.any()
    (separated.sum() + separated.square().sum()).backward()
    assert audio.grad.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_wanted_sources_are_those_of_all(model):
    audio = noise(seconds=0.2, rate=44100, channels=2)[None]
    stems = model.separate(audio)
    assert tuple(stems) == STEMS
    some = model.separate(audio, ["other", "drums"])
    assert list(some) == ["other", "drums"]
    for name, separated in some.items():
        close(separated, stems[name])
    with torch.no_grad():
        whole = model(*asked(model, audio))
    close(stems["drums"], whole[:, -1] if whole.shape[1] == 1 else whole[:, 1])
    with pytest.raises(InputError, match="bass: is no source of this model, which gives vocals, drums, other"):
        model.separate(audio, ["bass"])


def test_unwanted_sources_are_not_computed():
    model, rows = built("MobileNetSubbandTime"), []
    model.planes.register_forward_hook(lambda _, inputs, planes: rows.append(planes.shape[1:4]))
    model.separate(noise(seconds=0.1, rate=44100, channels=2)[None], ["drums"])
    assert rows == [(1, 4, 8)]


def test_items_of_a_batch_do_not_mix(model):
    audio = torch.stack([noise(seed, 0.1, 44100, 2) for seed in (1, 2)])
    check_repeats(Alone(model), audio)


def test_every_weight_learns(model):
    check_gradients(Alone(model), torch.stack([noise(seed, 0.1, 44100, 2) for seed in (1, 2)]))


def test_the_form_for_inference_computes_the_same(model):
    audio = noise(seconds=0.2, rate=44100, channels=2)[None]
    before = {name: values.clone() for name, values in model.state_dict().items()}
    expected = model.separate(audio)
    fast = for_inference(model)
    for name, separated in fast.separate(audio).items():
        close(separated, expected[name], 1e-4)
    norms = [sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in each.modules()) for each in (fast, model)]
    assert norms[0] < norms[1]
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name]), name
    close(model.separate(audio)["drums"], expected["drums"])


@pytest.mark.parametrize("name", ["UNet", "ResUNet143SubbandTime", "ConditionalUNet"])
def test_wide_convolutions_are_winograd_s_on_few_threads(name):
    model, audio = built(name, (32, 36)), noise(seconds=0.2, rate=44100, channels=2)[None].repeat(2, 1, 1)
    expected = model.separate(audio)
    kinds = {}
    for threads in (1, 3):
        torch.set_num_threads(threads)
        fast = for_inference(model)
        kinds[threads] = [type(layer) for layer in fast.body.modules()]
        for source, separated in fast.separate(audio).items():
            close(separated, expected[source], 1e-4)
    assert WinogradConv not in kinds[3]
    if torch._nnpack_available():
        assert kinds[1].count(WinogradConv) > kinds[1].count(torch.nn.Conv2d) > 0


def test_half_precision_stays_close(model):
    """Only the network computes in half precision, whether by autocast or in the form for inference."""
    audio = noise(seconds=0.2, rate=44100, channels=2)[None]
    with torch.no_grad():
        exact = model(*asked(model, audio))
        with torch.autocast("cpu", torch.bfloat16):
            autocast = model(*asked(model, audio))
    fast = for_inference(model, torch.bfloat16).separate(audio, ["drums"])["drums"]
    exact_drums = exact[:, -1] if exact.shape[1] == 1 else exact[:, 1]
    for half, whole in ((autocast, exact), (fast, exact_drums)):
        assert half.dtype == torch.float32
        error = (half - whole).square().mean() / whole.square().mean()
        assert 0 < error < 0.05


def test_sources_of_subbands_do_not_mix():
    """In the original's UNetSubbandTime they do."""
    for name in ("UNetSubbandTime", "MobileNetSubbandTime"):
        audio = noise(seconds=0.2, rate=44100, channels=2)[None]
        audio[:, 1] = 0
        separated = all_pass(built(name)).separate(audio)
        close(separated["vocals"], audio, 0.2)  # white noise loses the most
        assert not separated["vocals"][:, 1].any()
        assert separated["drums"].abs().max() < 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_any_number_of_channels(model, channels):
    config = type(model).Config(sources=STEMS, widths=(4, 4), channels=channels)
    audio = noise(seconds=0.1, rate=44100, channels=channels)[None]
    separated = type(model)(config).eval().separate(audio)
    assert {values.shape for values in separated.values()} == {audio.shape}


@pytest.mark.parametrize("name", ["MobileNetSubbandTime", "ConditionalUNet"])
def test_bundles_keep_everything(name, tmp_path):
    check_bundle(built(name, (4, 6)), tmp_path / "bundle")


def test_filters_are_kept_in_bundles(tmp_path):
    model = built("MobileNetSubbandTime", (4, 6))
    model.bank.analysis_weight.mul_(0.5)
    PACKAGE.save(model, tmp_path / "bundle", "# A model")
    assert torch.equal(load(tmp_path / "bundle").bank.analysis_weight, model.bank.analysis_weight)


def test_norms_see_each_frequency(model):
    """The mean of one bin, whatever its channel, is its norm's."""
    magnitude = torch.rand(2, 3, 5, model.config.bins)
    model.norm.momentum = 1.0
    model.norm.train()(magnitude)
    close(model.norm.running_mean, magnitude.mean((0, 1, 2)))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"n_fft": 500}, "multiple of 128 for 6 widths, got 500"),
        ({"widths": ()}, "widths"),
        ({"widths": (8, 0)}, "widths"),
        ({"sources": ()}, "sources must be one or more"),
        ({"sources": ("a", "a")}, "different names"),
        ({"sources": ("a/b",)}, r"got 'a/b'"),
        ({"hop": 0}, "hop must be at least 1"),
        ({"hop": 4096}, "hop must not be larger"),
        ({"channels": 0}, "channels"),
    ],
)
def test_impossible_settings_are_named(settings, text):
    with pytest.raises(ValueError, match=text):
        SeparatorConfig(**settings)
