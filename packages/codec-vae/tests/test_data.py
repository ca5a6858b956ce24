"""Training samples: loud, of one length, rate and number of channels, and the same for the same seed and index."""

import numpy as np
import pytest
import torch
from audio_codec_vae import data
from audio_codec_vae.config import AutoencoderConfig, LyraDecoderConfig, LyraEncoderConfig
from audio_codec_vae.recipe import Data
from audio_core import audio
from audio_core.data import manifest
from audio_core.files import InputError
from audio_core.testing import noise, tone

RATE = 4000
STEREO = AutoencoderConfig(rate=RATE)
MONO = AutoencoderConfig(
    rate=RATE, channels=1, encoder=LyraEncoderConfig(in_channels=1), decoder=LyraDecoderConfig(out_channels=1)
)


@pytest.fixture
def folder(tmp_path):
    """Writes sounds at the model's rate by their names; (C, T) tensors."""

    def write(**sounds):
        for name, sound in sounds.items():
            audio.write(tmp_path / "sounds" / f"{name}.wav", np.asarray(sound, np.float32), RATE)
        return tmp_path / "sounds"

    return write


def corpus(root, model=STEREO, quiet=True, **settings) -> data.Corpus:
    return data.Corpus(Data(root, **{"held_out": 0, "samples": 1000, **settings}), model, root / ".headers", quiet)


def stretches(root, model=STEREO, seed=0, **settings) -> data.LoudStretches:
    files = corpus(root, model, **settings)
    return data.samples(files.data, model, files.trained, seed).sources[0]


def test_files_of_every_kind_are_converted_or_left_out_and_named(folder, capsys):
    root = folder(
        mono=0.3 * tone(100, 1.0, RATE),
        short=0.5 * torch.ones(1, 90),
        silent=torch.zeros(2, RATE),
        soft=0.009 * torch.ones(2, RATE),
        stereo=0.3 * tone(200, 1.0, RATE, 2),
        surround=0.3 * tone(200, 1.0, RATE, 6),
        three=0.3 * tone(200, 1.0, RATE, 3),
    )
    audio.write(root / "low.wav", 0.3 * tone(100, 1.0, 2000).numpy(), 2000)
    (root / "corrupt.wav").write_bytes(b"RIFF and nothing")
    (root / "cut.wav").write_bytes((root / "mono.wav").read_bytes()[:4000])
    files = corpus(root, quiet=False)
    assert [file.path.stem for file in files.trained[0]] == ["low", "mono", "stereo", "surround"]
    said = capsys.readouterr().err.splitlines()
    causes = {
        "corrupt.wav": "not audio",
        "cut.wav": "is truncated",
        "short.wav": "has 90 samples, less than a tenth",
        "silent.wav": "is nowhere louder than -40 dB",
        "soft.wav": "is nowhere louder than -40 dB",
        "three.wav": "has 3 channels, which cannot become 2",
        "low.wav": "resampled from a rate below the model's 4000 Hz: 1 files",
    }
    assert len(said) == len(causes)
    for name, cause in causes.items():
        assert any(name in line and cause in line for line in said), name
    source = data.samples(files.data, STEREO, files.trained, 0)
    for index in range(8):
        sample = source[index]
        assert sample.shape == (2, 1000) and sample.abs().max() == pytest.approx(0.95, rel=1e-5)
    assert "three" in {file.path.stem for file in corpus(root, MONO).trained[0]}  # many become one


def test_a_sample_is_a_function_of_seed_and_index(folder):
    root = folder(**{f"n{at}": 0.3 * noise(at, 2.0, RATE, 2) for at in range(3)})
    settings = {"pitch": 2, "gain_db": (-12.0, 0.0)}
    first, again, other = (stretches(root, seed=seed, **settings) for seed in (1, 1, 2))
    order = [5, 0, 3, 5]
    assert all(torch.equal(first[at], again[at]) for at in order) and torch.equal(first[5], again[5])
    assert [first.name(at) for at in range(6)] == [again.name(at) for at in range(6)]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[0], other[0])
    peaks = [float(first[at].abs().max()) for at in range(20)]
    assert min(peaks) >= 0.95 * 10 ** (-12 / 20) - 1e-6 and max(peaks) <= 0.95 + 1e-6 and max(peaks) > 2 * min(peaks)


def test_every_file_has_its_turn_in_an_epoch(folder):
    source = stretches(folder(**{f"n{at}": 0.3 * noise(at, 1.0, RATE, 2) for at in range(5)}))
    names = [source.name(at).split(" at ")[0] for at in range(10)]
    assert len({*names[:5]}) == len({*names[5:]}) == 5


def test_quiet_stretches_are_passed_over(folder):
    sound = 0.001 * noise(0, 10.0, RATE, 2)
    sound[:, : 4 * RATE] *= 300
    source = stretches(folder(partly=sound, other=0.3 * noise(1, 1.0, RATE, 2)))
    assert all(data.level_db(source._drawn(at)[0]) > -40 for at in range(20))
    whole = stretches(folder(partly=sound), quiet_db=-100)
    assert any(data.level_db(whole._drawn(at)[0]) < -40 for at in range(20))


def test_a_search_for_what_is_loud_ends_with_the_loudest(folder):
    """Every sample of a click is loud enough, and no stretch of it is."""
    click = 0.001 * noise(0, 1.0, RATE, 2)
    click[:, 100] = 0.1
    source = stretches(folder(click=click))
    stretch = source[0]
    assert stretch.shape == (2, 1000) and data.level_db(source._drawn(0)[0]) < -40
    assert stretch.abs().max() <= 0.95


def test_a_file_that_is_damaged_later_on_is_passed_over_and_named_once(folder, capsys):
    root = folder(a=0.3 * noise(0, 30.0, RATE, 2), b=0.3 * noise(1, 1.0, RATE, 2))
    source = stretches(root)
    (root / "a.wav").write_bytes(b"gone")
    assert all(source[at].abs().max() > 0.9 and "b.wav" in source.name(at) for at in range(4))
    assert capsys.readouterr().err.count("passed over") == 1
    (root / "b.wav").unlink()
    with pytest.raises(InputError, match=r"\.wav"):
        source[0]


def test_signs_are_inverted_and_levels_kept_on_request(folder):
    root = folder(positive=0.25 * torch.ones(2, RATE))
    flipped, plain = stretches(root), stretches(root, flip=False, peak=0)
    signs = {float(flipped[at].sign().mean()) for at in range(20)}
    assert signs == {-1.0, 1.0} and all(plain[at].max() == pytest.approx(0.25, abs=1e-4) for at in range(20))


def test_pitch_changes_with_the_speed(folder):
    root = folder(a=0.3 * tone(400, 4.0, RATE, 2))
    source = stretches(root, pitch=12, flip=False)
    spectra = [torch.fft.rfft(source[at][0] * torch.hann_window(1000)).abs() for at in range(12)]
    pitches = [float(spectrum.argmax()) * RATE / 1000 for spectrum in spectra]
    assert all(190 <= pitch <= 810 for pitch in pitches) and max(pitches) - min(pitches) > 100
    assert all(at.argmax() == 100 for at in [torch.fft.rfft(stretches(root)[0][0]).abs()])


def test_held_out_files_are_clips_of_their_middle(folder):
    root = folder(**{f"n{at}": 0.3 * noise(at, 1.0, RATE) for at in range(4)})
    files = corpus(root, held_out=2)
    assert [file.path.stem for file in files.held] == ["n0", "n2"] and len(files) == 2
    held = data.clips(files.data, STEREO, files.held)
    middle = audio.read(root / "n2.wav", 1500, 1000).samples.repeat(2, 0)
    np.testing.assert_allclose(held[1], 0.95 * middle / np.abs(middle).max(), atol=1e-5)
    assert len(held) == 2 and torch.equal(held[1], held[1])
    with pytest.raises(IndexError):
        held[2]


def test_manifests_and_several_roots(folder, tmp_path):
    root = folder(a=0.3 * noise(0, 1.0, RATE), b=torch.zeros(1, RATE))
    listed = tmp_path / "list.jsonl"
    manifest.scan(root, listed, progress=False, level=True)
    files = corpus(root, more=(listed,))
    assert [[file.path.stem for file in each] for each in files.trained] == [["a"], ["a"]]
    source = data.samples(files.data, STEREO, files.trained, 0)
    assert source.sources[0].seed != source.sources[1].seed and torch.isfinite(source[1]).all()


def test_what_cannot_be_trained_on_is_one_line(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder; give a folder with audio"):
        corpus(tmp_path / "none")
    root = folder(silent=torch.zeros(2, RATE))
    with pytest.raises(InputError, match=r"holds no audio to train on; .*silent\.wav: is nowhere louder"):
        corpus(root)
    folder(only=0.3 * noise(0, 1.0, RATE))
    with pytest.raises(InputError, match="is the only file"):
        corpus(root, held_out=2)


@pytest.mark.parametrize(
    "settings",
    [{"samples": 0}, {"held_out": 1}, {"peak": 2}, {"gain_db": (0, -1)}, {"quiet_db": 1}, {"pitch": 13}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Data(**settings)
