"""What the packages can do, on synthetic sound: trains a small denoiser and writes demo/report.html to listen to.

Every part is a function that returns after adding to the page; each package adds its own.
"""

import math
import shutil
import sys
import time
from pathlib import Path

import audio_acdnet
import audio_codec_vae
import audio_core
import audio_gen
import audio_semamba
import audio_sep
import audio_soundstream
import numpy as np
import torch
from audio_acdnet.classify import recording, windows
from audio_acdnet.events import joined
from audio_acdnet.model import folded
from audio_codec_vae import evaluate as reconstructing
from audio_core import audio, bundle, chunk, metrics
from audio_core import latents as stored
from audio_core.data.manifest import Manifest, scan
from audio_core.data.segments import Segments
from audio_core.files import note
from audio_core.nn.conv import Conv1d
from audio_core.nn.residual import ResidualUnit
from audio_core.nn.stream import Sequential
from audio_core.report import Report
from audio_core.train.fit import fit
from audio_core.train.plan import Plan
from audio_core.train.run import Run
from audio_core.train.watch import Journal, Log, Save
from audio_semamba import evaluate as improving
from audio_sep import evaluate as separating
from audio_soundstream import evaluate as measuring
from audio_soundstream.sstr import bitstream
from demo_denoiser import Denoiser, Denoising, Noisy
from demo_sounds import RATE, drums, tune, voice

FOLDER = Path(__file__).resolve().parents[1] / "demo"


def db(target: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-noise ratio in dB; the noise is the difference."""
    return 10 * math.log10(np.square(target).sum() / max(np.square(target - estimate).sum(), 1e-30))


# --- files and signals -------------------------------------------------------------------------------


def files(page: Report) -> None:
    page.heading("Files")
    page.text("Six seconds of stereo written, read back and compared; W64, RF64, AIFF and CAF hold the same as WAV.")
    sound, rows = tune(1, 6, 48_000), []
    for extension in (".wav", ".flac", ".ogg", ".opus", ".mp3"):
        container, encodings = audio.FORMATS[extension]
        for encoding in [name for name in encodings if name != "FLOAT"]:
            path = FOLDER / f"formats/tune-{encoding.lower()}{extension}"
            audio.write(path, sound, 48_000, encoding)
            back = audio.read(path).samples
            error = db(sound, back) if back.shape == sound.shape else None
            rows.append((path.name, container, encoding, path.stat().st_size / 1000, error))
    page.table(("file", "container", "encoding", "kB", "SNR dB"), rows)
    page.row(
        [
            ("original", sound, 48_000),
            ("from MP3", audio.read(FOLDER / "formats/tune-mpeg_layer_iii.mp3").samples, 48_000),
        ]
    )


def signals(page: Report) -> None:
    page.heading("Signals")
    x = torch.from_numpy(tune(2, 4))[None]
    rows: list[tuple[str, str, object]] = []
    t = np.arange(5 * 44_100) / 44_100
    sweep = np.sin(2 * np.pi * (20 * t + (7_200 - 20) * t**2 / 10)).astype(np.float32)[None]
    t = np.arange(5 * RATE) / RATE
    target = np.sin(2 * np.pi * (20 * t + (7_200 - 20) * t**2 / 10)).astype(np.float32)[None]
    resampled = audio.resample(sweep, 44_100, RATE)
    rows.append(
        (
            "resampling 44.1 to 16 kHz",
            "sweep against its formula",
            f"{db(target[:, 800:-800], resampled[:, 800:-800]):.1f} dB",
        )
    )
    net = Sequential(Conv1d(2, 8, 7, 4, padding="causal"), ResidualUnit(8, dilation=3), Conv1d(8, 2, 3)).eval()
    with torch.no_grad():
        offline, state, parts = net(x), net.start(), []
        for piece in x.split(37, -1):
            out, state = net.stream(piece, state)
            parts.append(out)
        parts.append(net.stream(x[..., :0], state, last=True)[0])
    difference = float((torch.cat(parts, -1) - offline).abs().max())
    rows.append(("three layers fed 37 samples at a time", "largest difference to offline", f"{difference:.1e}"))
    page.table(("what", "measure", "value"), rows)


# --- a model, from data to a released folder ---------------------------------------------------------


def training(page: Report, steps: int) -> None:
    page.heading("A model, from data to a released folder")
    for number in range(6):
        audio.write(FOLDER / f"data/tune-{number}.flac", tune(10 + number, 8), RATE)
    scan(FOLDER / "data", FOLDER / "data.jsonl", progress=False)
    clean = Segments(Manifest.load(FOLDER / "data.jsonl").items, seconds=1.0, rate=RATE, channels=1)
    plan = Plan(steps=steps, batch=8, workers=0, log_every=max(1, steps // 5), save_every=steps)
    torch.manual_seed(plan.seed)
    task, run = Denoising(plan), Run(FOLDER / "run", plan, "cpu")
    started = time.process_time()
    fit(task, Noisy(clean, 1), run, [Log(Journal(run)), Save()])
    seconds = time.process_time() - started
    card = bundle.card(
        "A toy denoiser", "Written by the demonstration.", "mit", "Synthetic tunes.", {}, "bundle.load(...)"
    )
    bundle.save(task.net.raw, FOLDER / "bundle", "audio-core", "0.1.0", card, force=True)
    model = bundle.load(FOLDER / "bundle", [Denoiser])

    held_out = tune(99, 20)[:1]
    hiss = 0.06 * np.random.default_rng(5).standard_normal(held_out.shape).astype(np.float32)
    audio.write(FOLDER / "noisy.wav", held_out + hiss, RATE, "FLOAT")
    chunk.process_file(model, FOLDER / "noisy.wav", FOLDER / "denoised.wav", 2 * RATE, encoding="FLOAT", progress=False)
    noisy, denoised = (audio.read(FOLDER / f"{name}.wav").samples for name in ("noisy", "denoised"))
    whole = model(torch.from_numpy(noisy)[None])[0].detach()
    x, y = torch.from_numpy(denoised), torch.from_numpy(held_out)
    page.text(
        f"{steps} steps on 48 seconds of tunes took {seconds:.0f} CPU seconds; the state on disk resumes to the bit. "
        "The released folder is loaded again and run over a file in segments of two seconds."
    )
    losses = torch.stack(task.losses).numpy()
    page.curve(
        "Mean absolute error by step, log scale",
        {"error": (np.arange(1, len(losses) + 1), losses)},
        log=True,
    )
    page.table(
        ("on a tune held out", "noisy", "denoised"),
        [
            ("SI-SDR, dB", float(metrics.si_sdr(torch.from_numpy(noisy), y)[0]), float(metrics.si_sdr(x, y)[0])),
            (
                "log-spectral distance, dB",
                *(float(metrics.log_spectral_distance(e, y)[0]) for e in (torch.from_numpy(noisy), x)),
            ),
            ("file in 2 s segments against all at once, SNR dB", None, db(whole.numpy(), denoised)),
        ],
    )
    six = 6 * RATE
    page.row(
        [("noisy", noisy[:, :six], RATE), ("denoised", denoised[:, :six], RATE), ("clean", held_out[:, :six], RATE)]
    )


# --- acdnet --------------------------------------------------------------------------------------------


def sounds(page: Report) -> None:
    """Sounds a little like rain, a clock and waves, and what the shipped model classifies them as, and when."""
    page.heading("Sound classification (audio-acdnet)")
    rng, t = np.random.default_rng(4), np.arange(8 * 20_000) / 20_000
    rain = 0.1 * rng.standard_normal(t.size)
    clock = np.where(t % 0.5 < 0.002, 0.6 * np.sin(2 * np.pi * 4000 * t), 0.001 * rng.standard_normal(t.size))
    waves = np.convolve(rng.standard_normal(t.size), np.ones(12) / 12, "same") * (
        0.1 + 0.25 * np.sin(np.pi * t / 4) ** 2
    )
    silence = np.zeros(2 * 20_000)
    samples = np.concatenate([rain, silence, clock, silence, waves]).astype(np.float32)
    audio.write(FOLDER / "recording.flac", samples, 20_000)
    model = folded(audio_acdnet.load())
    scored = list(windows(model, recording(FOLDER / "recording.flac")))
    page.text(
        "Eight seconds each of a hiss, of clicks and of swelling noise, with silence between, classified by the "
        "Micro-ACDNet in the wheel. It knows the ten classes of ESC-10 and is right on 69 of 80 clips held out."
    )
    page.audio("recording", samples, 20_000)
    page.table(
        ("from, s", "to, s", "class", "probability, %"),
        [(e.start, e.end, e.label, 100 * e.score) for e in joined(model.config.labels, scored, threshold=0.3)],
    )
    scores = np.array([np.full(10, np.nan) if w.probabilities is None else w.probabilities for w in scored])
    middle = np.array([(w.start + w.end) / 2 for w in scored])
    best = np.argsort(-np.nan_to_num(scores).max(0))[:5]
    lines = {model.config.labels[k]: (middle, 100 * scores[:, k]) for k in best}
    page.curve("Probability over time, %; gaps are silence", lines, unit="s")


# --- soundstream ---------------------------------------------------------------------------------------


def coded(page: Report) -> None:
    """A tune to a file, to a smaller file, and back; and what each bitrate keeps."""
    page.heading("Neural codec (audio-soundstream)")
    source, folder = FOLDER / "codec/original.wav", FOLDER / "codec"
    audio.write(source, tune(5, 15).mean(0, keepdims=True), RATE)
    model = audio_soundstream.load()
    audio_soundstream.encode_file(model, source, folder / "tune.sstr", quiet=True)
    audio_soundstream.encode_file(model, source, folder / "tune-entropy.sstr", entropy=True, quiet=True)
    with (folder / "tune.sstr").open("rb") as whole, (folder / "tune-half.sstr").open("wb") as half:
        bitstream.cut(whole, half, len(model.codebooks) // 2, "tune.sstr")
    rows = [("original.wav", source.stat().st_size, None)]
    sounds = [("original", audio.read(source).samples, RATE)]
    for name, about in (
        ("tune", "all layers"),
        ("tune-entropy", "the same, entropy coded"),
        ("tune-half", "cut to half of the layers, not encoded again"),
    ):
        path = folder / f"{name}.sstr"
        audio_soundstream.decode_file(model, path, folder / f"{name}.wav", quiet=True)
        rows.append((f"{path.name}: {about}", path.stat().st_size, bitstream.describe(path)["container_kbps"]))
        if name != "tune-entropy":  # sounds as the one before
            sounds.append((about, audio.read(folder / f"{name}.wav").samples, RATE))
    page.text(
        "Fifteen seconds through the TinyStream in the wheel, which learnt from speech and noises in 40 minutes on one "
        "processor and is small enough for a microcontroller."
    )
    page.table(("file", "bytes", "kbit/s"), rows)
    plain, entropy = (size for _, size, _ in rows[1:3])
    page.text(
        f"Entropy coding takes the file from {plain:,} to {entropy:,} bytes, {100 * (1 - entropy / plain):.1f} % less; "
        "the probabilities of the codes come with the model, as they were in its training."
    )
    page.row(sounds)
    result = measuring.evaluate(model, [str(source)], quiet=True)
    page.table(
        ("", "kbit/s", "SI-SDR, dB", "mel distance"),
        [(r.name, r.kbps, r.mean("si_sdr"), r.mean("mel")) for r in [*result.bitrates, *result.opus]],
    )


# --- codec-vae -----------------------------------------------------------------------------------------


def autoencoded(page: Report) -> None:
    """A voice to latents on disk and back; and what the latents keep."""
    page.heading("Autoencoder (audio-codec-vae)")
    folder = FOLDER / "autoencoder"
    source, latents, decoded = folder / "voice.wav", folder / "voice.latents", folder / "decoded.wav"
    audio.write(source, voice(9, 8)[None], RATE)
    model = audio_codec_vae.load()
    audio_codec_vae.encode_file(model, source, latents, quiet=True)
    audio_codec_vae.decode_file(model, latents, decoded)
    width, frames = stored.load(latents, model.fingerprint()).values.shape
    page.text(
        f"Eight seconds of a synthetic voice as {frames} frames of {width} latents, {RATE * 8 / (width * frames):.0f} "
        f"times fewer numbers than samples, {latents.stat().st_size:,} bytes on disk; and decoded by the model in "
        "the wheel, which learnt from speech, noises and music on one processor."
    )
    result = reconstructing.evaluate(model, [str(source)], quiet=True)
    names = [reconstructing.MEASURES[measure] for measure in result.values]
    page.table(names, [[result.mean(measure) for measure in result.values]], "SI-SDR: higher is better; others: lower.")
    page.row([("original", audio.read(source).samples, RATE), ("decoded", audio.read(decoded).samples, RATE)])


# --- gen -----------------------------------------------------------------------------------------------


def generated(page: Report) -> None:
    """Sounds from prompts; one of them with its middle made anew, and one that goes on."""
    page.heading("Generation (audio-gen)")
    model = audio_gen.load()
    prompts = ["a dog barking", "rain", "clock tick"]
    result = audio_gen.generate(model, prompts, seed=3)
    rate, clips = model.config.rate, np.clip(result.audio.numpy(), -1, 1)
    for seed, prompt, clip in zip(result.seeds, prompts, clips, strict=True):
        audio.write(FOLDER / f"generated/{prompt.replace(' ', '-')}-{seed}.wav", clip, rate)
    page.text(
        "Three prompts and what the model in the wheel makes of them: a small diffusion transformer on the latents of "
        "audio-codec-vae, trained on a processor with ten kinds of sounds. Envelopes and spectra are right, and tones "
        "in part."
    )
    page.row([(prompt, clip, rate) for prompt, clip in zip(prompts, clips, strict=True)])
    filled = audio_gen.inpaint(model, clips[1], rate, [(0, 1.5), (3.5, 5)], "a dog barking", seed=4)
    longer = audio_gen.continued(model, clips[2], rate, 3, "clock tick", seed=5)
    kept = np.array_equal(filled[:, : rate + rate // 2], clips[1][:, : rate + rate // 2])
    page.text(
        "The rain with a dog from 1.5 to 3.5 s, the rest of it kept sample for sample"
        f"{'' if kept else ' (it is not: a defect)'}; and the clock, which goes on for three seconds."
    )
    page.row([("rain, then a dog, then rain", np.clip(filled, -1, 1), rate), ("clock", np.clip(longer, -1, 1), rate)])


# --- semamba -------------------------------------------------------------------------------------------


def enhanced(page: Report) -> None:
    """A voice in noise, enhanced by the models in the wheel, and live."""
    page.heading("Speech enhancement (audio-semamba)")
    rng, clean = np.random.default_rng(6), voice(6, 6)
    hiss = np.convolve(rng.standard_normal(len(clean)), np.ones(4) / 4, "same")
    noisy = (clean + hiss * np.sqrt(np.mean(clean**2) / np.mean(hiss**2) / 10 ** (5 / 10))).astype(np.float32)
    audio.write(FOLDER / "speech/clean/voice.wav", clean[None], RATE)
    audio.write(FOLDER / "speech/noisy/voice.wav", noisy[None], RATE)
    page.text(
        "Six seconds of a synthetic voice with noise at 5 dB. Both models in the wheel learnt from speech; the causal "
        "one enhances live audio with the delay of one window."
    )
    sounds, rows, names = [("clean", clean[None], RATE), ("noisy", noisy[None], RATE)], [], []
    for name in audio_semamba.PACKAGE.shipped:
        model = audio_semamba.load(name)
        result = improving.evaluate(model, FOLDER / "speech/clean", FOLDER / "speech/noisy", quiet=True)
        names = [improving.MEASURES[measure] for measure in result.measures]
        rows = rows or [("noisy", *result.means("noisy").values())]
        rows.append((name, *result.means("enhanced").values()))
        sounds.append((name, audio_semamba.enhance(model, noisy, RATE)[None], RATE))
    page.table(("", *names), rows, "Higher is better. PESQ and STOI come where their libraries are installed.")
    page.row(sounds)


# --- sep -----------------------------------------------------------------------------------------------


def separated(page: Report) -> None:
    """A song of a voice, plucked notes and drums, and its voice as the model in the wheel finds it."""
    page.heading("Source separation (audio-sep)")
    seconds, rate = 8, 44_100
    sung = np.repeat(audio.resample(voice(8, seconds)[None], RATE, rate), 2, 0)
    band = tune(8, seconds, rate) + drums(8, seconds, rate)
    stems = {"voice": sung, "music": band * np.float32(np.sqrt(np.mean(sung**2) / np.mean(band**2)))}
    scale = np.float32(0.9 / np.abs(sum(stems.values())).max())
    for name, stem in stems.items():
        audio.write(FOLDER / f"songs/song/{name}.wav", scale * stem, rate)
    model = audio_sep.load()
    result = separating.evaluate(model, FOLDER / "songs", listen=1, quiet=True, residual="music")
    page.text(
        "A song made on the spot: a synthetic voice, plucked notes and drums, voice and music equally loud. The model "
        "in the wheel gives the voice; the music is the rest."
    )
    names = [separating.MEASURES[measure] for measure in result.measures]
    rows = [
        (f"{source}, {side}", *result.totals(side, source).values())
        for source in result.sources
        for side in ("mixture", "estimate")
    ]
    page.table(("", *names), rows, "Higher is better.")
    for sounds in result.sounds:
        page.row(sounds)


def main() -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    torch.set_num_threads(2)
    page = Report("What the audio packages do, on synthetic sound")
    for number, (name, part) in enumerate(PARTS.items(), 1):
        note(f"[{number}/{len(PARTS)}] {name}")
        part(page)
    page.foot(f"audio-core {audio_core.__version__}", "hatch run demo")
    page.save(FOLDER / "report.html")
    print(FOLDER / "report.html")
    return 0


PARTS = {
    "files in every format": files,
    "signals": signals,
    "training a denoiser": lambda page: training(page, 400),
    "classifying sounds": sounds,
    "a codec, from file to file": coded,
    "an autoencoder, to latents on disk and back": autoencoded,
    "sounds from prompts": generated,
    "taking noise out of speech": enhanced,
    "taking a voice out of a song": separated,
}

if __name__ == "__main__":
    sys.exit(main())
