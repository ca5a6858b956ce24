"""What an evaluation measures: distances and classes on features of latents, losses, and its page."""

import json

import numpy as np
import pytest
import torch
from audio_core import latents
from audio_core.data.seeds import mix
from audio_core.files import InputError
from audio_core.report import Report
from audio_gen import evaluate as module
from audio_gen.config import LMConfig
from audio_gen.config.language import LanguageModelConfig
from audio_gen.diffusion.objectives import noised
from audio_gen.evaluate import evaluate
from audio_gen.generate import Generated
from audio_gen.held_out import held_out
from audio_gen.measures import Scale, features, frechet, frechet_distance, nearest_classes
from audio_gen.models.diffusion import inpainting
from audio_gen.models.lm import LM

from . import toys

PROMPTS = ("rain", "wind", "a dog")


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)


def latents_of(prompt, seed):
    """Each prompt has a level of its own in one of the channels."""
    values = 0.3 * torch.randn(toys.WIDTH, toys.FRAMES, generator=torch.Generator().manual_seed(seed))
    values[PROMPTS.index(prompt)] += 1.0
    return values


def write(folder, count=24, prompts=PROMPTS, samples=toys.FRAMES * toys.HOP, **settings):
    folder.mkdir(exist_ok=True)
    for at in range(count):
        prompt = prompts[at % len(prompts)]
        values = latents_of(PROMPTS[at % len(PROMPTS)], at).numpy()[:, : -(-samples // toys.HOP)]
        head = {"rate": toys.RATE, "hop": toys.HOP, "samples": samples, "channels": 1, "fingerprint": b"toycodec"}
        item = latents.Latents(**{**head, "values": values, "facts": {"prompt": prompt}, **settings})
        latents.save(folder / f"{at:02}.safetensors", item)
    return folder


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data")


def generates(monkeypatch, choose):
    """Every generated item becomes a sample of the prompt that `choose` gives for its own."""

    def generate(model, item, seconds, seed, decode):
        return Generated(None, latents_of(choose(item["prompt"]), 1000 + seed)[None], [seed])

    monkeypatch.setattr(module, "generate", generate)


# --- measures ------------------------------------------------------------------------------------------------


def test_the_frechet_distance_of_normal_distributions_is_the_closed_form():
    """For two features the trace of the root of a product AB is sqrt(tr AB + 2 sqrt(det AB))."""
    generator = torch.Generator().manual_seed(1)
    halves = torch.randn(2, 2, 2, generator=generator, dtype=torch.float64)
    one, other = halves @ halves.mT  # which do not commute
    mean, other_mean = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    product = one @ other
    assert (product - product.T).abs().max() > 0.1
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = (mean - other_mean).square().sum() + one.trace() + other.trace() - 2 * root
    assert frechet(mean, one, other_mean, other) == pytest.approx(float(expected), rel=1e-9)
    levels, others = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([4.0, 9.0, 1.0]).double()
    means = torch.zeros(3).double(), torch.tensor([1.0, 0, 2]).double()
    assert frechet(means[0], levels.diag(), means[1], others.diag()) == pytest.approx(5 + 1 + 1 + 1)


def test_the_distance_of_sets_nears_that_of_their_distributions():
    one = torch.randn(20000, 3, generator=torch.Generator().manual_seed(1)).double()
    other = 2 * torch.randn(20000, 3, generator=torch.Generator().manual_seed(2)).double() + 1
    assert frechet_distance(one, other) == pytest.approx(1 + 1, rel=0.05)  # (2 - 1)² and 1² of each feature
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_correlations_count_and_few_items_are_enough():
    first = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.randn(4000, 1, generator=torch.Generator().manual_seed(2)).double()
    apart, together = torch.cat([first, noise], 1), torch.cat([first, 0.9 * first + (1 - 0.81) ** 0.5 * noise], 1)
    # Eigenvalues 1 ± 0.9 against 1 and 1, over two features.
    expected = ((1.9**0.5 - 1) ** 2 + (1 - 0.1**0.5) ** 2) / 2
    assert frechet_distance(apart, together) == pytest.approx(expected, rel=0.1)
    few = torch.randn(3, 50, generator=torch.Generator().manual_seed(3)).double()
    assert np.isfinite(frechet_distance(few, few + 1))
    assert frechet_distance(few, few + 1) == pytest.approx(1, rel=1e-6)


def test_features_are_mean_and_deviation_of_each_channel_and_scaled_alike():
    values = torch.tensor([[1.0, 3, 1, 3], [5, 5, 5, 5]])
    assert features(values).tolist() == [2, 5, 1, 0]
    several = torch.stack([features(latents_of("rain", at)) for at in range(9)])
    scaled = Scale(several)(several)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(8).double())
    constant = torch.full((3, 2), 5.0).double()
    assert Scale(constant)(constant).abs().max() == 0


def test_the_nearest_class_is_that_of_the_nearest_centroid():
    reference = torch.tensor([[0.0], [4.0], [5.0], [7.0]])
    labels = ["low", "low", "high", "high"]  # centroids 2 and 6
    assert nearest_classes(torch.tensor([[3.9], [4.1]]), reference, labels) == ["low", "high"]


def test_at_most_half_of_each_prompt_is_held_out_in_turns():
    labels = ["a"] * 6 + ["b"] * 3 + ["c", "d", "e", "f"]
    chosen = held_out(labels, 99, 0)
    names = [labels[at] for at in chosen]
    assert len({*chosen}) == len(chosen) and (names.count("a"), names.count("b")) == (3, 1)
    assert len({*names} & {*"cdef"}) == 2
    assert sorted(labels[at] for at in held_out(labels, 2, 0)) == ["a", "b"]
    assert held_out(labels, 99, 0) == chosen != held_out(labels, 99, 1)


# --- the protocol --------------------------------------------------------------------------------------------


def test_a_model_that_generates_another_class_is_told_from_one_that_does_not(data, monkeypatch):
    generates(monkeypatch, lambda prompt: prompt)
    right = evaluate(toys.model(), data, quiet=True)
    generates(monkeypatch, lambda prompt: "a dog" if prompt == "wind" else prompt)
    wrong = evaluate(toys.model(), data, quiet=True)
    assert (right.items, right.clips, right.classes) == (24, 12, ["a dog", "rain", "wind"])
    assert right.accuracy == (1, 1) and wrong.accuracy.generated == pytest.approx(2 / 3) and wrong.accuracy.real == 1
    assert right.confusion.tolist() == [[4, 0, 0], [0, 4, 0], [0, 0, 4]]
    assert wrong.confusion.tolist() == [[4, 0, 0], [0, 4, 0], [4, 0, 0]]
    assert right.distance.real == wrong.distance.real
    assert right.distance.generated < 2 * right.distance.real < wrong.distance.generated


@pytest.mark.parametrize("inpaints", [False, True])
@torch.no_grad()
def test_losses_are_those_of_held_out_items_without_padding(tmp_path, inpaints):
    """Of a batch of one, by hand, with the noise of the first item at the fourth time; 25 of 40 frames are real."""
    model = toys.model(inpaints=inpaints)
    result = evaluate(model, write(tmp_path / "data", 4, ("rain",), samples=245), quiet=True)
    assert [*result.losses] == [f"0.{at}" for at in range(1, 10)] and result.clips == 2
    files = [held_out(["rain"] * 4, 64, 0)[at] for at in (0, 1)]
    errors = []
    for at, file in enumerate(files):
        x = torch.zeros(1, toys.WIDTH, toys.FRAMES)
        x[..., :25] = latents_of(PROMPTS[file % 3], file)[:, :25]
        real = torch.arange(toys.FRAMES)[None] < 25
        generator = torch.Generator().manual_seed(mix(at, 3))
        noise, t = torch.randn(1, toys.WIDTH, toys.FRAMES, generator=generator), torch.tensor([0.4])
        extra = inpainting(x, torch.zeros(1, 1, toys.FRAMES)) if inpaints else None
        facts = [{"prompt": "rain", "seconds_total": 1}]
        output = model(noised(model.objective, x, noise, t), t, facts, extra, None, real)
        errors.append((output - (noise - x))[..., :25].square().mean())
    assert result.losses["0.4"] == pytest.approx(float(sum(errors) / 2), rel=1e-4)


def test_an_evaluation_repeats_itself_and_a_seed_draws_others(data):
    model = toys.model()

    def measured(seed):
        facts = evaluate(model, data, clips=2, seed=seed, quiet=True).plain()
        facts.pop("cpu_seconds_per_second")
        return facts

    first = measured(1)
    assert first == measured(1)
    assert first["frechet_distance"] != measured(2)["frechet_distance"]


def test_prompts_that_do_not_repeat_have_no_accuracy(tmp_path):
    names = tuple(f"sound {at}" for at in range(6))
    result = evaluate(toys.model(), write(tmp_path / "data", 6, names), quiet=True)
    assert result.accuracy is None and result.clips == 3 and result.distance.real > 0
    assert "nearest" not in result.table() and result.plain()["accuracy"] is None


def test_a_table_describes_items_and_long_ones_are_cut(tmp_path):
    frames = 2 * toys.FRAMES
    values = torch.randn(toys.WIDTH, frames).numpy()
    folder = write(tmp_path / "data", 4, values=values, samples=frames * toys.HOP, facts={})
    table = tmp_path / "about.csv"
    table.write_text("file,prompt\n" + "".join(f"{at:02},rain\n" for at in range(4)))
    result = evaluate(toys.model(), folder, table, quiet=True)
    assert result.clips == 2 and result.generation > 0
    with pytest.raises(InputError, match="there is no prompt"):
        evaluate(toys.model(), folder, quiet=True)


def test_codes_of_a_language_model_are_measured_too(tmp_path):
    codebooks, size = 2, 16

    class Codes(toys.ToyCodec):
        codebooks = (size, size)

        def from_codes(self, codes):
            return codes.repeat(1, 2, 1)[:, : toys.WIDTH].float()

    torch.manual_seed(0)
    settings = {"codebooks": codebooks, "codebook_size": size, "embed_dim": 32, "depth": 1, "dim_heads": 32}
    plain = {"rate": toys.RATE, "channels": 1, "samples": toys.FRAMES * toys.HOP, "hop": toys.HOP}
    with_codec = toys.config().codec
    codes = np.random.default_rng(0).integers(0, size, (3, toys.FRAMES))
    folder = write(tmp_path / "data", 6, values=codes)
    for codec in (None, with_codec):
        model = LM(LMConfig(**plain, codec=codec, lm=LanguageModelConfig(**settings))).eval()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("audio_core.codec.find", lambda name: Codes)
            result = evaluate(model, folder, listen=1, quiet=True)
        wanted = model(torch.from_numpy(codes[None, :codebooks]), [{}]).codebooks
        assert [*result.losses.values()] == pytest.approx(wanted.tolist(), rel=1e-5)
        assert (result.distance is None) is (codec is None) and len(result.sounds) == (codec is not None)
        page = Report("codes")
        result.page(page, tmp_path)
        assert "all codes are equally likely has 2.773" in page.html()
        assert [*result.plain()["cross_entropy"]] == ["mean", "1", "2"]


def test_the_page_has_numbers_the_loss_and_sounds_beside_real_ones(data, tmp_path):
    result = evaluate(toys.model(), data, clips=6, listen=2, quiet=True)
    page, folder = Report("toy"), tmp_path / "report"
    folder.mkdir()
    result.page(page, folder)
    html = page.html()
    assert html.count("<audio") == 4 and html.count("real: ") == 2 and "spectrogram" in html
    assert "Fréchet distance" in html and 'class="matrix"' in html and "at 0.9 t:" in html
    assert not list(folder.iterdir())
    assert "6 clips; 24 real items" in result.table() and "nearest class" in result.table()
    json.dumps(result.plain(), allow_nan=False)
    real = result.sounds[0][1][1]
    name = result.sounds[0][1][0].removeprefix("real: ")
    stored = torch.from_numpy(latents.load(data / name).values)[None]
    np.testing.assert_allclose(real, toys.ToyCodec().decode(stored)[0].clamp(-1, 1).numpy(), atol=1e-6)


def test_items_of_other_codecs_are_refused(data, tmp_path):
    with pytest.raises(InputError, match="has 5 values a frame, and the model 4"):
        evaluate(toys.model(), write(tmp_path / "wide", values=np.zeros((5, 40), "f4")), quiet=True)
    with pytest.raises(InputError, match="--clips: expected at least 2, got 1"):
        evaluate(toys.model(), data, clips=1)
    write(data, 1, fingerprint=b"another!")
    with pytest.raises(InputError, match="was encoded by codec"):
        evaluate(toys.model(), data, clips=2, quiet=True)


def test_items_that_cannot_be_read_are_named_and_counted(data, capsys):
    path = sorted(data.glob("*.safetensors"))[0]
    content = path.read_bytes()
    path.write_bytes(content[:-40] + b"\xff" * 40)  # NaN behind a header that is right
    result = evaluate(toys.model(), data, clips=2, quiet=True)
    assert result.unreadable == 1 and path.name in capsys.readouterr().err


def test_without_its_codec_there_is_nothing_to_hear(data, monkeypatch, capsys):
    def missing(name):
        raise InputError("codec toy: is not installed")

    monkeypatch.setattr("audio_core.codec.find", missing)
    result = evaluate(toys.model(), data, clips=2, listen=2, quiet=True)
    assert result.sounds == [] and result.decoding is None and result.distance is not None
    assert "codec toy: is not installed; there will be nothing to hear" in capsys.readouterr().err
