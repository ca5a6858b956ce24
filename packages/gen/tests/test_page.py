"""The page in a real browser: what a person types, presses, sees and hears."""

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from .browser import browser

HEARD = "document.querySelector('#player audio')?.readyState > 0"
SEEN = "document.querySelector('#picture img')?.naturalWidth > 0"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What `page_server` prints, and the folder of its files."""
    cache = tmp_path_factory.mktemp("cache")
    folders = [str(Path(__file__).parents[2]), *sys.path]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "GRADIO_TEMP_DIR": str(cache)}
    log = cache.parent / "page_server.log"
    with log.open("w") as errors:
        server = subprocess.Popen(
            [sys.executable, "-m", "gen.tests.page_server"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with server:
            facts = server.stdout.readline()
            assert facts, log.read_text()
            yield {"cache": cache, **json.loads(facts)}
            server.stdin.close()
            assert server.wait(60) == 0, log.read_text()
    assert not [path for path in cache.rglob("*") if path.is_file()]  # all files are deleted
    assert "stranger" not in log.read_text()  # the server asks nobody for anything
    errors = {*re.findall(r"^([\w.]+Error): ", log.read_text(), re.M)}
    assert errors <= {"ZeroDivisionError", "gradio.exceptions.InvalidPathError"}  # those that tests ask for


@pytest.fixture(scope="module")
def tab(served):
    with browser() as opened:
        opened.open(served["open"])
        yield opened


def said(text):
    return f"document.querySelector('#status').innerText.includes({text!r})"


def place(selector):
    """Left, top and width of an element, once it is there."""
    box = "box => box.width && [box.left, box.top, box.width]"
    return f"({box})((document.querySelector({selector!r}) ?? document.body).getBoundingClientRect())"


def test_a_person_generates_and_goes_on(tab, served):
    tab.type("#prompt textarea", "rain <b>")
    tab.type("#steps input", "6")
    tab.click("#go")
    tab.wait(HEARD)
    tab.wait(SEEN)
    assert abs(tab.ask("document.querySelector('#player audio').duration") - 0.5) < 0.01
    line = tab.ask("document.querySelector('#status').innerText")
    assert re.match(r"rain <b> · generate · 0.5 s · seed \d+ · made in", line)
    assert [*served["cache"].rglob("rain-b-*.wav")]

    tab.click("#format input[value=flac]")
    tab.wait("document.querySelector('#download').innerText.includes('flac')")

    tab.click("#use")
    tab.wait("document.querySelector('#go').innerText === 'Vary'")
    tab.click("#way input[value=inpaint]")
    tab.wait("document.querySelector('#waveform .area') !== null")
    tab.ask("document.querySelector('#waveform').scrollIntoView()")
    left, top, width = tab.wait(place("#waveform .area"))
    tab.drag((left + 0.2 * width, top + 20), (left + 0.6 * width, top + 20))
    tab.wait("document.querySelectorAll('#waveform .kept').length === 1")
    start, end = map(float, tab.ask("document.querySelector('#keep textarea, #keep input').value").split(":"))
    assert abs(start - 0.1) < 0.02 and abs(end - 0.3) < 0.02
    tab.click("#go")
    tab.wait(said("inpaint · 0.5 s"))
    assert tab.ask("document.querySelectorAll('#picture .kept').length") == 1
    tab.wait("document.querySelectorAll('#history input').length === 2")
    tab.click("#history label:nth-of-type(2) input")
    tab.wait(said("generate · 0.5 s"))
    tab.click("#way input[value=generate]")
    tab.wait("document.querySelector('#go').innerText === 'Generate'")


def test_wrong_input_is_one_clear_line(tab):
    tab.type("#seconds input", "99")
    tab.click("#go")
    tab.wait(said("seconds: this model generates up to 0.5 s, got 99"))
    assert tab.ask("document.querySelectorAll('#status .error').length") == 1
    tab.type("#seconds input", "0.5")


def test_a_defect_is_one_line_and_the_page_goes_on(tab):
    tab.type("#prompt textarea", "defect")
    tab.click("#go")
    tab.wait(said("ZeroDivisionError: on purpose (a fault of ours"))
    tab.type("#prompt textarea", "wind")
    tab.click("#go")
    tab.wait(said("wind · generate"))
    assert tab.ask("document.querySelectorAll('#status .error').length") == 0


def test_stop_ends_a_generation(tab):
    tab.type("#steps input", "100000")
    tab.click("#go")
    tab.wait(said("Step "))
    tab.click("#stop")
    tab.wait(said("Stopped."))
    tab.type("#steps input", "2")
    tab.click("#go")
    tab.wait(said("made in"))


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(tab, width):
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    tab.wait(f"innerWidth === {width}")
    assert tab.ask("document.documentElement.scrollWidth") <= width


def test_each_session_has_its_own_results(tab, served):
    assert tab.ask("document.querySelectorAll('#history input').length") > 1
    tab.open(served["open"])
    tab.wait("document.querySelector('#go') && !document.querySelector('#history input')")
    tab.type("#steps input", "2")
    tab.click("#go")
    tab.wait("document.querySelectorAll('#history input').length === 1")


def test_the_browser_asks_nobody_else(tab, served):
    hosts = {address.split("/")[2] for address in tab.requests if address.startswith(("http", "ws"))}
    assert hosts == {served["open"].split("/")[2]}


def test_files_of_the_machine_stay_there(served):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{served['open']}gradio_api/file={Path(__file__).resolve()}")


def test_a_browser_cannot_name_files_of_the_machine(served, tmp_path):
    """The event behind the waveform takes what was uploaded, and no other path."""
    (tmp_path / "sound.wav").write_bytes(WAV)
    address, upload = (
        f"{served['open']}gradio_api/",
        "--x\r\nContent-Disposition: form-data; name=files; filename=a.wav",
    )
    body = upload.encode() + b"\r\n\r\n" + WAV + b"\r\n--x--\r\n"
    asked = urllib.request.Request(f"{address}upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    (stored,) = json.load(urllib.request.urlopen(asked))
    assert waveform_of(served["open"], stored)["success"]
    refused = waveform_of(served["open"], str(tmp_path / "sound.wav"))
    assert not refused["success"] and "wave" not in json.dumps(refused["output"])


WAV = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x08\0\0\0" + bytes(8)
"""Four samples."""


def waveform_of(address, path):
    """What the page answers for a file, as its own script asks for it."""
    config = json.load(urllib.request.urlopen(f"{address}config"))
    ids = {each["props"].get("elem_id"): each["id"] for each in config["components"]}
    event = next(each for each in config["dependencies"] if each["inputs"] == [ids["source"], ids["keep"]])
    file = {"path": path, "orig_name": "sound.wav", "meta": {"_type": "gradio.FileData"}}
    session = f"session{hash(path)}"
    body = json.dumps({"data": [file, ""], "fn_index": event["id"], "session_hash": session}).encode()
    join = urllib.request.Request(f"{address}gradio_api/queue/join", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(join)
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash={session}") as answers:
        for line in answers:
            if b"process_completed" in line:
                return json.loads(line.removeprefix(b"data: "))
    raise AssertionError("no answer")


def test_a_password_is_asked_for(served):
    address = served["closed"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}config")
    for password, code in (("wrong", 400), ("secret", 200)):
        form = f"username=audio&password={password}".encode()
        try:
            status = urllib.request.urlopen(f"{address}login", form).status
        except urllib.error.HTTPError as error:
            status = error.code
        assert status == code


@pytest.mark.parametrize(
    ("kind", "there", "absent"),
    [
        ("inpainting", {"prompt", "negative", "steps", "cfg", "sampler", "apg", "keep"}, {"temperature"}),
        ("unconditional", {"steps", "sampler", "keep"}, {"prompt", "negative", "cfg"}),
        ("language", {"prompt", "temperature", "top_k", "top_p", "cfg"}, {"steps", "sampler"}),
    ],
)
def test_fields_of_each_kind_of_model(served, kind, there, absent):
    fields = {*served["fields"][kind]}
    assert there <= fields and not absent & fields
