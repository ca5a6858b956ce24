"""The page without a browser: which fields a model has, what they mean, what is refused, and who may reach it."""

import dataclasses
import re
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from audio_core import audio, command
from audio_core.files import InputError
from audio_gen.config.conditioners import (
    CodecSource,
    ConditioningConfig,
    IntConfig,
    ListConfig,
    NumberConfig,
    PrecomputedConfig,
)
from audio_gen.config.diffusion_autoencoder import DiffusionAutoencoderConfig
from audio_gen.generate import generate
from audio_gen.ui import actions, pictures
from audio_gen.ui.actions import Progress, Result, regions, run
from audio_gen.ui.command import add, credentials
from audio_gen.ui.form import form

from . import toys, ui_toys


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: ui_toys.Codec)


@pytest.fixture
def recording(tmp_path):
    sound = (0.3 * np.random.default_rng(0).standard_normal((1, 3200))).astype(np.float32)
    audio.write(tmp_path / "sound.wav", sound, ui_toys.RATE, "FLOAT")
    return tmp_path / "sound.wav", sound


def asked(model, way="generate", **values):
    """A request, with what the fields of a new page hold."""
    page = form(model.config)
    held = {"way": way, "seed": 3, "sampler": page.sampler, "condition.prompt": "rain", "more": 0.05}
    held |= {setting.name: setting.value for setting in (*page.main, *page.guidance)}
    return actions.request(page, held | ({"steps": 3} if "steps" in held else {}) | values)


def result_of(model, request):
    *progress, result = run(model, request, threading.Lock())
    assert all(isinstance(each, Progress) for each in progress) and isinstance(result, Result)
    return progress, result


# --- fields ------------------------------------------------------------------------------------------------------


def test_fields_follow_from_the_model():
    page = form(ui_toys.diffusion_config())
    assert page.ways == ("generate", "vary", "inpaint", "continue") and page.negative
    assert [(field.key, field.kind, field.value) for field in page.fields] == [
        ("prompt", "text", None),
        ("seconds_total", "number", None),
    ]
    assert page.samplers == ("euler", "rk4", "dpmpp", "pingpong") and page.seconds == 0.5
    assert [setting.name for setting in page.main] == ["steps", "cfg"]

    v = form(ui_toys.diffusion_config(objective="v"))
    assert "v-ddim" in v.samplers and "euler" not in v.samplers and v.sampler == "dpmpp-3m-sde"

    unconditional = form(ui_toys.diffusion_config(conditioned=False))
    assert not unconditional.fields and not unconditional.negative and not unconditional.guidance
    assert [setting.name for setting in unconditional.main] == ["steps"]

    language = form(ui_toys.language().config)
    assert language.ways == ("generate", "continue") and language.any_length and language.negative
    assert [setting.name for setting in language.main] == ["temperature", "top_k", "top_p", "cfg"]
    assert [setting.value for setting in language.main] == [1.0, 8, 0.0, 1.0]


def with_conditioner(each):
    config = ui_toys.diffusion_config(conditioned=False)
    return dataclasses.replace(config, conditioning=ConditioningConfig(cond_dim=8, conditioners={"it": each}))


def test_numbers_and_choices_have_fields_of_their_own():
    (choice,) = form(with_conditioner(ListConfig(options=("jazz", "rock")))).fields
    assert (choice.kind, choice.options, choice.value) == ("choice", ("jazz", "rock"), "jazz")
    (whole,) = form(with_conditioner(IntConfig(max_val=9))).fields
    assert (whole.kind, whole.value, whole.hint) == ("whole", 0, "0 to 9")
    (number,) = form(with_conditioner(NumberConfig(min_val=2, max_val=9))).fields
    assert (number.kind, number.value) == ("number", 2)
    with pytest.raises(InputError, match="it: the page has no field for what a conditioner of kind Precomputed takes"):
        form(with_conditioner(PrecomputedConfig(width=8)))
    page = form(with_conditioner(NumberConfig()))
    with pytest.raises(InputError, match="It: is empty; give a value"):
        actions.request(page, {"way": "generate", "condition.it": None})


def test_a_model_that_nobody_can_hear_has_no_page():
    with pytest.raises(InputError, match="codec: this model has none"):
        form(toys.config(codec=False))
    with pytest.raises(InputError, match="this model reconstructs audio and generates none"):
        form(DiffusionAutoencoderConfig(codec=CodecSource(name="soundstream")))


# --- from fields to results ---------------------------------------------------------------------------------------


def test_the_page_makes_what_the_function_makes():
    model = ui_toys.diffusion()
    values = {"seconds": 0.3, "cfg": 2.0, "rescale": 0.5, "interval_from": 0.95, "negative": "wind"}
    progress, result = result_of(model, asked(model, **values))
    again = generate(
        model, "rain", 0.3, "wind", seed=3, steps=3, sampler="euler", cfg=2.0, rescale=0.5, interval=(0.95, 1.0)
    )
    assert np.array_equal(result.samples, again.audio[0].numpy())
    assert [each.index for each in progress] == [1, 2, 3] and progress[0].steps == 3
    assert result.name == "rain-3" and result.line == "rain · generate · 0.3 s · seed 3"
    _, without = result_of(model, asked(model, **values | {"interval_from": 0.0}))
    assert not np.array_equal(result.samples, without.samples)


def test_an_empty_field_is_the_models_own_setting():
    model = ui_toys.diffusion()
    request = asked(model, steps=None, cfg=None, seconds=None, negative="")
    assert request.negative is None and request.seconds is None
    assert request.settings["steps"] is None and request.settings["cfg"] is None


def test_a_random_seed_is_drawn_and_told():
    first, second = (asked(ui_toys.diffusion(), seed=-1).seed for _ in range(2))
    assert first != second and min(first, second) >= 0
    with pytest.raises(InputError, match="seed: expected a number from 0 on, or -1"):
        asked(ui_toys.diffusion(), seed=-2)


def test_pictures_on_the_way_are_few():
    model = ui_toys.diffusion()
    progress, _ = result_of(model, asked(model, steps=11))
    seen = [each.index for each in progress if each.picture]
    assert seen == [4, 7, 10]
    assert all(each.picture.startswith("<div") for each in progress if each.picture)


def test_recordings_are_changed(recording):
    path, sound = recording
    model = ui_toys.diffusion(inpaints=True)
    _, kept = result_of(model, asked(model, "inpaint", source=str(path), keep="0:0.1, 0.3:0.4"))
    assert np.array_equal(kept.samples[:, :800], sound[:, :800]) and kept.keep == ((0, 0.1), (0.3, 0.4))
    assert not np.allclose(kept.samples[:, 900:2300], sound[:, 900:2300], atol=0.05)
    _, longer = result_of(model, asked(model, "continue", source=str(path)))
    assert longer.samples.shape == (1, 3600) and np.array_equal(longer.samples[:, :3200], sound)
    assert longer.keep == ((0, 0.4),)
    near, far = (
        result_of(model, asked(model, "vary", source=str(path), strength=strength, steps=6))[1].samples
        for strength in (0.01, 1.0)
    )
    assert near.shape == sound.shape
    assert np.abs(near - sound).mean() < np.abs(far - sound).mean()


def test_language_models_generate_and_continue(recording):
    path, sound = recording
    model = ui_toys.language()
    progress, result = result_of(model, asked(model, seconds=0.05, temperature=0.5, top_k=4))
    again = generate(model, "rain", 0.05, seed=3, temperature=0.5, top_k=4)
    assert np.array_equal(result.samples, again.audio[0].numpy())
    assert progress[-1].index == progress[-1].steps and not any(each.picture for each in progress)
    _, longer = result_of(model, asked(model, "continue", source=str(path)))
    assert np.array_equal(longer.samples[:, :3200], sound) and longer.samples.shape == (1, 3600)
    with pytest.raises(InputError, match="inpaint: this model does not do that"):
        asked(model, "inpaint", source=str(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seconds": 9}, r"seconds: this model generates up to 0.5 s, got 9"),
        ({"seconds": 0}, r"seconds: expected a length above 0"),
        ({"steps": 0}, r"steps must be 1 at least"),
        ({"cfg": 1, "negative": "wind"}, r"negative: needs guidance"),
        ({"rescale": 3}, r"rescale must be from 0 to 1"),
        ({"sampler": "heun"}, r"sampler: 'heun' is none of"),
        ({"way": "vary"}, r"audio: there is none"),
        ({"way": "inpaint", "keep": "0-4"}, r"keep: expected regions in seconds such as 0:4 8:12, got '0-4'"),
        ({"way": "inpaint", "keep": "4:1"}, r"keep: expected a start before an end, got 4:1"),
        ({"way": "inpaint", "keep": " "}, r"keep: is empty"),
        ({"way": "vary", "strength": 0}, r"strength: expected a number above 0"),
        ({"way": "continue", "more": None}, r"seconds to add: is empty"),
    ],
)
def test_what_is_wrong_is_told(recording, values, message):
    model = ui_toys.diffusion()
    if {"keep", "strength", "more"} & {*values}:
        values = {"source": str(recording[0]), **values}
    with pytest.raises(InputError, match=message):
        result_of(model, asked(model, **values))


def test_a_file_that_is_no_audio_is_named_without_its_folder(tmp_path):
    path = tmp_path / "note.wav"
    path.write_text("no audio")
    model = ui_toys.diffusion()
    with pytest.raises(InputError, match=r"note\.wav: ") as caught:
        result_of(model, asked(model, "vary", source=str(path)))
    assert str(tmp_path) not in str(caught.value)


def test_whoever_leaves_ends_the_work():
    model, lock = ui_toys.diffusion(), threading.Lock()
    seen, original = [], model.backbone.forward

    def counted(*args, **settings):
        seen.append(1)
        return original(*args, **settings)

    model.backbone.forward = counted
    steps = run(model, asked(model, steps=5000, cfg=1), lock)
    next(steps)
    steps.close()
    assert lock.acquire(timeout=60)  # the work has ended
    assert len(seen) < 5000


def test_one_generation_at_a_time():
    model, lock = ui_toys.diffusion(), threading.Lock()
    first, second = (run(model, asked(model, seed=seed), lock) for seed in (1, 2))
    reports = [*first], [*second]
    alone = generate(model, "rain", seed=2, steps=3, cfg=7.0, sampler="euler").audio[0]
    assert np.array_equal(reports[1][-1].samples, alone.numpy())
    with lock:
        waiting = run(model, asked(model), lock)
        thread = threading.Thread(target=next, args=(waiting,), daemon=True)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()


def test_results_are_written_in_all_formats(tmp_path):
    sound = 0.1 * torch.sin(torch.arange(8000) / 9)[None].numpy()
    result = Result(sound, ui_toys.RATE, 5, "generate", "rain", "rain-5")
    for ending in actions.FORMATS:
        path = actions.write(result, tmp_path, ending)
        assert path.name == f"rain-5.{ending}"
        read = audio.read(path)
        assert read.rate == ui_toys.RATE and np.abs(read.samples[:, :8000] - sound).mean() < 0.02
    with pytest.raises(InputError, match=r"rain-5.mp3: cannot write .*801 Hz") as caught:
        actions.write(dataclasses.replace(result, rate=801), tmp_path, "mp3")
    assert str(tmp_path) not in str(caught.value)


# --- pictures ----------------------------------------------------------------------------------------------------


def test_regions_are_shaded_where_they_are():
    picture = pictures.waveform(np.zeros((2, 4000), np.float32), 1000, [(1, 2), (3, 9)])
    shades = re.findall(r'class="kept" style="left:([\d.]+)%;width:([\d.]+)%"', picture)
    assert shades == [("25.00", "25.00"), ("75.00", "25.00")]


def test_the_outline_is_that_of_the_samples():
    sound = np.zeros((1, 100), np.float32)
    sound[0, 50:] = 0.5
    points = re.search(r'd="M(.*)Z"', pictures.waveform(sound, 100))[1].split("L")
    tops = [float(point.split()[1]) for point in points[:100]]
    assert tops == [0] * 50 + [-1] * 50


@pytest.mark.parametrize("samples", [1, 7, 5000])
def test_any_length_has_pictures(samples):
    sound = np.full((2, samples), 0.1, np.float32)
    assert "<path" in pictures.waveform(sound, 800) and "<img" in pictures.spectrogram(sound, 800)


def test_regions_are_read():
    assert regions("0:4 8:12.5") == ((0, 4), (8, 12.5)) and regions("1:2,3:4") == ((1, 2), (3, 4))
    assert regions("") == ()


# --- who may reach it ---------------------------------------------------------------------------------------------


def test_only_this_machine_needs_no_password():
    for host in ("127.0.0.1", "localhost", "::1"):
        assert credentials(host, False, None, None) is None
    for host, share in (("0.0.0.0", False), ("192.168.1.5", False), ("127.0.0.1", True), ("", False)):
        with pytest.raises(InputError, match="give a --password too"):
            credentials(host, share, None, None)
        assert credentials(host, share, None, "secret") == ("audio", "secret")
    assert credentials("127.0.0.1", False, "me", "secret") == ("me", "secret")
    with pytest.raises(InputError, match="--password: is empty"):
        credentials("0.0.0.0", False, None, "")
    with pytest.raises(InputError, match="--user: has no meaning without --password"):
        credentials("127.0.0.1", False, "me", None)


def arguments(*given):
    parser, verbs = command.program("audio-gen", "about", "0")
    add(verbs)
    return command.main(parser, ["ui", *given])


def test_the_verb_refuses_before_it_loads_anything(capsys, monkeypatch):
    assert arguments("nowhere", "--host", "0.0.0.0") == 2
    assert "--host 0.0.0.0: others than you could reach the page" in capsys.readouterr().err
    assert arguments("nowhere", "--port", "70000") == 2
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert arguments("nowhere") == 2
    assert 'pip install "audio-gen[ui]"' in capsys.readouterr().err


def test_the_verb_serves_the_model_to_whom_it_may(capsys, monkeypatch):
    served = []

    class Addresses(list):
        def wait(self):
            served.append("waited")

    @contextmanager
    def serving(*given):
        served.append(given)
        yield Addresses(["http://127.0.0.1:7860/"])

    model = ui_toys.diffusion()
    monkeypatch.setattr("audio_gen.ui.command.PACKAGE", SimpleNamespace(model=lambda path: model))
    for name, parts in {"gradio": {}, "audio_gen.ui.page": {"build": lambda *given: given}}.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**parts))
    monkeypatch.setitem(sys.modules, "audio_gen.ui.serve", SimpleNamespace(serving=serving))
    assert arguments("me/model", "--host", "0.0.0.0", "--port", "80", "--password", "secret", "--device", "cpu") == 0
    assert served == [((model, "me/model"), "0.0.0.0", 80, ("audio", "secret"), False), "waited"]
    assert capsys.readouterr().out == "http://127.0.0.1:7860/\n"

    def missing(name):
        raise InputError("codec 'toy' is not installed")

    model = ui_toys.diffusion()
    monkeypatch.setattr("audio_core.codec.find", missing)
    assert arguments("me/model", "--device", "cpu") == 2 and len(served) == 2
    assert "codec 'toy' is not installed" in capsys.readouterr().err
