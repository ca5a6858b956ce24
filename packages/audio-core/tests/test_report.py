import base64
import datetime
import io
import math
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from audio_core import draw
from audio_core.files import InputError
from audio_core.report import Report

RATE = 16000
VOID = {"meta", "link", "img"}


def tone(hertz, seconds=1.0, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


class Page(HTMLParser):
    """What is on a page; a tag that closes another than the last one opened is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.words.append(data.strip())

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def decoded(png):
    """The pixels of a PNG, read by the letter of the format: signature, checksums, filters 0 and 2."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + data)
        chunks[name], at = data, at + 12 + size
    width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert kind == [8, 2, 0, 0, 0] and list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert (rows[:, 0] == 2).all()
    return np.cumsum(rows[:, 1:], 0, dtype=np.uint8).reshape(height, width, 3)


def everything():
    report = Report("<b>Title</b> & more")
    report.heading("A <script>alert(1)</script>")
    report.text("x < y & 'z' \"w\"")
    report.table(["name", "<i>"], [["<u>", 1.5], ["b", float("nan")]], "<caption>")
    report.audio('tone "440" <&>', tone(440), RATE)
    report.row([("reference", tone(500), RATE), ("estimate", np.stack([tone(500)] * 2), RATE)], spectrogram=False)
    report.curve("<loss>", {"<train>": ([0, 1, 2], [1, math.nan, 3])}, log=True, unit="<steps>")
    report.bars("<bars>", {"<a>": 1.0, "b": -2.0})
    report.matrix("<matrix>", ["<cat>", 'd"og'], [[3, 1], [0, 0]])
    return report


def test_the_page_is_well_formed_and_all_text_is_literal():
    page = Page(everything().html())
    words = page.words
    for text in ("<b>Title</b> & more", "A <script>alert(1)</script>", "x < y & 'z' \"w\"", "<u>", "<i>", "<caption>"):
        assert text in words
    for text in ('tone "440" <&>', "<loss>", "<train>", "<steps>", "<bars>", "<a>", "<matrix>", "<cat>", 'd"og'):
        assert text in words
    assert not {"script", "b>", "u"} & {tag for tag, _ in page.tags}
    assert any(attributes.get("title") == '<cat> predicted as d"og: 1 (25 %)' for attributes in page.all("td"))


def test_the_page_loads_nothing():
    """A report is sent by mail and opened years later: whatever is not inside it is lost."""
    text = everything().html()
    assert not re.search(
        r"(?i)https?:|url\(|@import|<script|//\w", re.sub(r"base64,[^\"]+", "", text.replace("<script>alert", ""))
    )
    page = Page(text)
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_players_hold_16_bit_flac_of_the_very_samples():
    report = Report("r")
    stereo = np.stack([tone(440), tone(220, level=0.25)])
    report.row([("a", stereo, RATE), ("b", tone(100, rate=44100), 44100)])
    players = Page(report.html()).all("audio")
    assert len(players) == 2 and all("controls" in player for player in players)
    kind, data = players[0]["src"].split(",")
    assert kind == "data:audio/flac;base64"
    with soundfile.SoundFile(io.BytesIO(base64.b64decode(data))) as file:
        assert (file.format, file.subtype, file.samplerate, file.channels) == ("FLAC", "PCM_16", RATE, 2)
        assert np.abs(file.read(dtype="float32").T - stereo).max() <= 0.5 / 2**15
    assert soundfile.info(io.BytesIO(base64.b64decode(players[1]["src"].split(",")[1]))).samplerate == 44100


def test_the_caption_tells_length_rate_level_and_clipping():
    report = Report("r")
    report.row([("a", tone(440), RATE), ("b", 3 * tone(440), RATE), ("c", np.zeros(RATE // 2), RATE)])
    words = Page(report.html()).words
    assert "1 s · 16 kHz · peak -6.0 dB" in words
    assert "1 s · 16 kHz · peak +3.5 dB, clipped" in words
    assert "0.5 s · 16 kHz · silent" in words


def test_audio_that_cannot_be_played_is_refused():
    with pytest.raises(InputError, match=r"^a: holds NaN or infinity at sample 1$"):
        Report("r").audio("a", [0.0, math.nan], RATE)
    with pytest.raises(InputError, match=r"^a: is empty"):
        Report("r").audio("a", [], RATE)


def test_a_png_decodes_to_its_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(decoded(draw.png(pixels)), pixels)


def test_the_image_in_the_page_is_that_of_the_spectrogram():
    report = Report("r")
    report.audio("a", tone(440), RATE)
    data = base64.b64decode(Page(report.html()).all("img")[0]["src"].removeprefix("data:image/png;base64,"))
    top = 5 * math.ceil(draw.spectrogram(tone(440), RATE).max() / 5)
    assert np.array_equal(decoded(data), draw.spectrogram_image(tone(440), RATE, top))


def test_colours_rise_evenly_in_lightness():
    """CIELAB lightness: equal steps in dB must look equal, and nothing may look brighter than what is louder."""
    linear = (draw.colours(np.linspace(0, 1, 33)) / 255.0) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    light = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(light)
    assert light[0] < 1 and light[-1] > 95
    assert steps.min() > 0
    assert steps[4:].min() > 0.7 * steps[4:].mean() and steps.max() < 1.5 * steps.mean()
    assert draw.colours([-1, 2]).tolist() == [[0, 0, 4], [252, 253, 191]]


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("hertz", [150, 1000, 3500])
def test_a_tone_is_a_line_at_its_frequency_and_level(rate, hertz):
    levels = draw.spectrogram(tone(hertz, rate=rate, level=1.0), rate)
    middle = levels[:, levels.shape[1] // 2]
    row = middle.argmax() / (len(middle) - 1)
    expected = math.log1p(hertz / 700) / math.log1p(rate / 2 / 700)
    assert row == pytest.approx(expected, abs=0.02)
    assert -9 < middle.max() < 0.1  # a full-scale sine is 0 dB, less what the row's width shares out
    assert np.median(middle) < -80


@pytest.mark.parametrize(
    ("rate", "hertz"),
    [
        (44_100, ["0", "1", "2", "4", "8", "16 kHz"]),
        (8000, ["0", "1", "2", "4 kHz"]),
        (1000, ["0", "0.1", "0.2", "0.3", "0.4", "0.5 kHz"]),
    ],
)
def test_the_axes_of_a_spectrogram_have_round_numbers(rate, hertz):
    words = Page(draw.spectrogram_plot(tone(100, 3.7, rate), rate, -5.0)).words
    assert words == [*hertz, "-20 dB", "-40", "-60", "-80", "0", "1", "2", "3", "s"]


def test_the_foot_says_when_with_what_and_how_the_page_was_written():
    report = Report("r")
    assert "footer" not in {tag for tag, _ in Page(report.html()).tags}
    report.foot("audio-acdnet 0.1.0", "audio-acdnet evaluate run 'my <clips>'")
    assert Page(report.html()).words[-2:] == [
        f"{datetime.date.today()} · audio-acdnet 0.1.0 ·",
        "audio-acdnet evaluate run 'my <clips>'",
    ]


def test_time_runs_to_the_right_and_frequency_up():
    samples = np.concatenate([tone(300), tone(6000)])
    pixels = draw.spectrogram_image(samples, RATE).astype(int).sum(-1)
    height, width = pixels.shape
    early, late = pixels[:, width // 4].argmax(), pixels[:, 3 * width // 4].argmax()
    assert early > 0.7 * height and late < 0.2 * height


@pytest.mark.parametrize("frames", [1, 100, RATE, 120 * RATE])
def test_any_length_makes_an_image_of_limited_width(frames):
    samples = np.zeros(frames, np.float32)
    samples[-1] = 1
    levels = draw.spectrogram(samples, RATE)
    assert 1 <= levels.shape[1] <= 720 and np.isfinite(levels).all()


def test_noise_has_the_same_level_however_long_it_is():
    noise = 0.1 * np.random.default_rng(0).standard_normal(60 * RATE)
    short, long = (draw.spectrogram(noise[: n * RATE], RATE)[20:-20] for n in (1, 60))
    power = [10 * np.log10(np.mean(10 ** (levels / 10))) for levels in (short, long)]
    assert power[0] == pytest.approx(power[1], abs=0.5)


def test_table_columns_of_numbers_are_aligned_with_equal_decimals():
    report = Report("r")
    rows = [["a", 8.91234, 12000, 1e-9, True], ["b", 12.5, 7, 2e-9, False], ["c", math.nan, None, None, None]]
    report.table(["name", "dB", "n", "tiny", "ok"], rows)
    page = Page(report.html())
    at = page.words.index("name")
    assert page.words[at : at + 20] == [
        "name", "dB", "n", "tiny", "ok", "a", "8.91", "12,000", "1e-09", "True",
        "b", "12.50", "7", "2e-09", "False", "c", "–", "–", "–", "–",
    ]  # fmt: skip
    assert [cell.get("class") for cell in page.all("td")][:5] == [None, "n", "n", "n", None]
    report.table(["never"], [[False], [False]])
    assert Page(report.html()).words[-3:] == ["never", "False", "False"]


def paths(text, kind="line"):
    return [tag["d"] for tag in Page(text).all("path") if tag["class"].startswith(kind) and "H19" not in tag["d"]]


def test_curves_are_drawn_to_scale_with_gaps_where_there_is_no_number():
    text = draw.curve({"a": ([0, 10, 20, 30, 40], [0.0, 1.0, math.nan, 1.0, 0.0])})
    (path,) = paths(text)
    assert path == "M0.00 96.30h0L25.00 3.70M75.00 3.70h0L100.00 96.30"
    words = Page(text).words
    assert words[:3] == ["at 40:", "a", "0"] and {"0", "20", "40", "0.5", "1"} <= set(words)


def test_a_logarithmic_curve_has_decades_and_skips_what_has_no_logarithm():
    text = draw.curve({"a": ([0, 1, 2, 3], [1e-4, 0.0, 1e-2, 1.0])}, log=True)
    (path,) = paths(text)
    assert path == "M0.00 96.30h0M66.67 50.00h0L100.00 3.70"
    assert {"0.0001", "0.001", "0.01", "0.1", "1"} <= set(Page(text).words)
    assert "40" in Page(draw.curve({"a": ([0, 1], [20.0, 70.0])}, log=True)).words


def test_long_curves_are_thinned_and_keep_their_spikes():
    y = np.zeros(100_000)
    y[[777, 55_555]] = 5, -5
    (path,) = paths(draw.curve({"a": (np.arange(100_000), y)}))
    assert len(path) < 20_000
    assert " 3.70" in path and " 96.30" in path and path.startswith("M0.00") and "L100.00 " in path


@pytest.mark.parametrize("y", [[], [math.nan], [3.0], [math.inf, 1.0], [2.0, 2.0]])
def test_curves_of_almost_nothing_are_drawn(y):
    text = draw.curve({"a": (range(len(y)), y)})
    assert "nan" not in text and "inf" not in text
    Page(text)


def legend(lines, **options):
    return Page(draw.curve(lines, **options).partition("</div>")[0] + "</div>").words


def test_the_legend_reads_all_lines_at_the_last_x_that_they_share():
    """A codec at 6 kbit/s against Opus at 12 is no comparison."""
    codec, opus = ([1.5, 3, 6], [2.0, 4.0, 6.5]), ([4, 8], [1.0, 3.0])
    assert legend({"codec": codec, "Opus": opus}, unit="kbit/s") == ["at 6 kbit/s:", "codec", "6.5", "Opus", "2"]
    assert legend({"a": ([0, 2], [1, 100])}, log=True) == ["at 2:", "a", "100"]
    assert legend({"a": ([0, 2], [1, 100]), "b": ([1], [7])}, log=True) == ["at 1:", "a", "10", "b", "7"]


def test_the_legend_reads_lines_that_do_not_overlap_at_their_own_ends():
    lines = {"codec": ([1, 3], [2.0, 4.0]), "Opus": ([6, 12, 14], [1.0, 3.0, math.nan]), "none": ([], [])}
    assert legend(lines, unit="kbit/s") == ["codec", "4 at 3 kbit/s", "Opus", "3 at 12 kbit/s", "none", "–"]
    assert legend({"none": ([1], [math.nan])}) == ["none", "–"]


def test_a_curve_needs_as_many_x_as_y():
    with pytest.raises(ValueError, match="equally long"):
        draw.curve({"a": ([1, 2], [1])})


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (0, 3.2, [0, 0.5, 1, 1.5, 2, 2.5, 3]),
        (1.5, 12.3, [2, 4, 6, 8, 10, 12]),
        (5, 5, [5]),
        (0, 1e-7, [0, 2e-8, 4e-8, 6e-8, 8e-8, 1e-7]),
    ],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert draw.ticks(low, high) == pytest.approx(expected, abs=1e-15)


def test_bars_start_at_zero_and_go_left_below_it():
    page = Page(draw.bars({"a": 3.0, "b": -1.0, "c": math.nan}))
    assert [bar["style"] for bar in page.all("i")] == [
        "left:25.00%;width:75.00%", "left:0.00%;width:25.00%", "left:25.00%;width:0.00%",
    ]  # fmt: skip
    assert page.words == ["a", "3", "b", "-1", "c", "–"]
    Page(draw.bars({"a": 0.0}))


def test_a_matrix_shades_by_share_of_the_row_and_tells_what_was_right():
    page = Page(draw.matrix(["cat", "dog", "cat"], np.array([[3, 1, 0], [0, 10, 0], [0, 0, 0]])))
    cells = page.all("td")
    assert [cell.get("style") for cell in cells[:3]] == ["--share:0.750", "--share:0.250", "--share:0.000"]
    assert cells[0]["title"] == "cat predicted as cat: 3 (75 %)" and cells[0]["class"] == "strong"
    assert [word for word in page.words if word.endswith("%")] == ["75 %", "100 %", "0 %"]
    with pytest.raises(ValueError, match="do not fit 2 labels"):
        draw.matrix(["a", "b"], [[1, 2, 3]])


def test_saving_is_whole_and_the_same_every_time(tmp_path):
    everything().save(tmp_path / "deep" / "r.html")
    first = (tmp_path / "deep" / "r.html").read_bytes()
    everything().save(tmp_path / "deep" / "r.html")
    assert (tmp_path / "deep" / "r.html").read_bytes() == first
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.html"]
