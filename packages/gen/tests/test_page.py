"""The page in a real browser: what a person types, presses, sees and hears."""

import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from audio_gen.ui import page
from audio_gen.ui.serve import serving

from . import ui_toys
from .browser import browser

HEARD = "document.querySelector('#player audio')?.readyState > 0"
SEEN = "document.querySelector('#picture img')?.naturalWidth > 0"


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch, tmp_path):
    monkeypatch.setattr("audio_core.codec.find", lambda name: ui_toys.Codec)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))


def said(text):
    return f"document.querySelector('#status').innerText.includes({text!r})"


def test_a_person_generates_and_goes_on(tmp_path):
    built = page.build(ui_toys.diffusion(inpaints=True), "tiny")
    with serving(built, "127.0.0.1", None) as addresses, browser() as tab:
        tab.open(addresses[0])
        tab.type("#prompt textarea", "rain <b>")
        tab.type("#steps input", "6")
        tab.click("#go")
        tab.wait(HEARD)
        tab.wait(SEEN)
        assert abs(tab.ask("document.querySelector('#player audio').duration") - 0.5) < 0.01
        line = tab.ask("document.querySelector('#status').innerText")
        assert re.match(r"rain <b> · generate · 0.5 s · seed \d+ · made in", line)

        tab.type("#seconds input", "99")
        tab.click("#go")
        tab.wait(said("seconds: this model generates up to 0.5 s, got 99"))
        assert tab.ask("document.querySelectorAll('#status .error').length") == 1
        tab.type("#seconds input", "0.5")

        tab.click("#format input[value=flac]")
        tab.wait("document.querySelector('#download').innerText.includes('flac')")

        tab.click("#use")
        tab.wait("document.querySelector('#go').innerText === 'Vary'")
        tab.click("#way input[value=inpaint]")
        left, top, width = tab.wait(
            "(box => box && [box.left, box.top, box.width])"
            "(document.querySelector('#waveform .area')?.getBoundingClientRect())"
        )
        tab.ask("document.querySelector('#waveform').scrollIntoView()")
        left, top = tab.ask(
            "(box => [box.left, box.top])(document.querySelector('#waveform .area').getBoundingClientRect())"
        )
        tab.drag((left + 0.2 * width, top + 20), (left + 0.6 * width, top + 20))
        tab.wait("document.querySelectorAll('#waveform .kept').length === 1")
        drawn = tab.ask("document.querySelector('#keep textarea, #keep input').value")
        start, end = map(float, drawn.split(":"))
        assert abs(start - 0.1) < 0.02 and abs(end - 0.3) < 0.02
        tab.click("#go")
        tab.wait("document.querySelectorAll('#history input').length === 2")
        tab.wait(said("inpaint · 0.5 s"))
        assert tab.ask("document.querySelectorAll('#picture .kept').length") == 1
        tab.click("#history label:nth-of-type(2) input")
        tab.wait(said("generate · 0.5 s"))

        tab.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        assert tab.ask("document.documentElement.scrollWidth") == 390
        hosts = {address.split("/")[2] for address in tab.requests if address.startswith("http")}
        assert hosts == {addresses[0].split("/")[2]}
        assert [*Path(tmp_path / "cache").rglob("rain*.wav")]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{addresses[0]}gradio_api/file={Path(__file__).resolve()}")
    assert not [path for path in Path(tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_defect_is_one_line_and_the_page_goes_on(monkeypatch, capsys):
    model = ui_toys.language()
    built = page.build(model, "tiny")
    with serving(built, "127.0.0.1", None) as addresses, browser() as tab:
        tab.open(addresses[0])
        tab.type("#prompt textarea", "rain")
        with monkeypatch.context() as broken:
            broken.setattr("audio_gen.ui.actions.perform", lambda *given: 1 / 0)
            tab.click("#go")
            tab.wait(said("ZeroDivisionError: division by zero (a fault of ours"))
        assert "ZeroDivisionError" in capsys.readouterr().err
        tab.click("#go")
        tab.wait(HEARD)
        assert tab.ask("document.querySelectorAll('#status .error').length") == 0


def test_a_password_is_asked_for():
    built = page.build(ui_toys.diffusion(conditioned=False), "tiny")
    with serving(built, "127.0.0.1", None, ("audio", "secret")) as addresses:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{addresses[0]}config")
        for password, code in (("wrong", 400), ("secret", 200)):
            form = f"username=audio&password={password}".encode()
            try:
                got = urllib.request.urlopen(f"{addresses[0]}login", form).status
            except urllib.error.HTTPError as error:
                got = error.code
            assert got == code


@pytest.mark.parametrize(
    ("model", "there", "absent"),
    [
        (ui_toys.diffusion, {"prompt", "negative", "steps", "cfg", "sampler", "apg", "keep"}, {"temperature"}),
        (lambda: ui_toys.diffusion(conditioned=False), {"steps", "sampler", "keep"}, {"prompt", "negative", "cfg"}),
        (ui_toys.language, {"prompt", "temperature", "top_k", "top_p", "cfg"}, {"steps", "sampler"}),
    ],
)
def test_fields_of_each_kind_of_model(model, there, absent):
    ids = {getattr(block, "elem_id", None) for block in page.build(model(), "tiny").blocks.values()}
    assert there <= ids and not absent & ids
