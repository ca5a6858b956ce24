"""Pairs are found and matched, and each sample is a function of (seed, index) with the ratio and level asked for."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import audio, config
from audio_core.files import InputError
from audio_core.testing import noise, tone
from audio_semamba.compressed import CompressedSTFT
from audio_semamba.data import noises, samples
from audio_semamba.data.pairs import MOST_APART, Corpus, Pair, corpora, paired, scan_pairs
from audio_semamba.data.samples import Held, Pairs, mixed, normalised, power, training
from audio_semamba.recipe import Data

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pairs in clean/ and noisy/ (one a little shorter), and noise/."""
    root = tmp_path_factory.mktemp("data")
    for at, speaker in enumerate(("p1", "p1", "p2")):
        clean = 0.3 * tone(200 + 100 * at, 1.0, RATE).numpy()
        noisy = clean + 0.5 * noise(at, 1.0, RATE).numpy()
        audio.write(root / f"clean/{speaker}_{at}.wav", clean, RATE)
        audio.write(root / f"noisy/{speaker}_{at}.flac", noisy[:, : RATE - 100 * at], RATE)
        audio.write(root / f"noise/{at}.wav", noise(10 + at, 0.4, 8000, 2).numpy(), 8000)
    return root


def build(**values) -> Data:
    return config.build(Data, {name: _text(value) for name, value in values.items()})


def _text(value):
    if isinstance(value, Path):
        return str(value)
    return [_text(each) for each in value] if isinstance(value, list | tuple) else value


def corpus(data: Data, tmp_path: Path) -> Corpus:
    return corpora(data, tmp_path / "headers.jsonl", quiet=True)[0]


# --- finding and matching --------------------------------------------------------------------------------


def test_folders_lists_and_a_scanned_manifest_give_the_same_pairs(folder, tmp_path):
    for side in ("clean", "noisy"):
        names = sorted(map(str, (folder / side).iterdir()), reverse=side == "noisy")
        (tmp_path / f"{side}.json").write_text(json.dumps(names))
    scanned = scan_pairs(folder / "clean", folder / "noisy", tmp_path / "data.jsonl", quiet=True)
    wanted = [Pair(folder / f"clean/{name}.wav", folder / f"noisy/{name}.flac") for name in ("p1_0", "p1_1", "p2_2")]
    assert scanned.pairs == wanted and not scanned.unreadable
    by_folder = corpus(build(train=folder / "clean", noisy=folder / "noisy"), tmp_path)
    by_list = corpus(build(train=tmp_path / "clean.json", noisy=tmp_path / "noisy.json"), tmp_path)
    by_manifest = corpus(build(train=tmp_path / "data.jsonl"), tmp_path)
    assert by_folder.pairs == by_list.pairs == wanted and not by_manifest.clean
    assert [[path.resolve() for path in pair] for pair in by_manifest.pairs] == [list(pair) for pair in wanted]


def test_files_without_partner_and_unreadable_ones_are_named(folder, tmp_path, capsys):
    for side, names in {"clean": ("a", "b", "c", "long"), "noisy": ("a", "b", "d", "long")}.items():
        for name in names:
            seconds = 0.5 + (2 * MOST_APART if (side, name) == ("noisy", "long") else 0)
            audio.write(tmp_path / f"{side}/{name}.wav", tone(300, seconds, RATE).numpy(), RATE)
    (tmp_path / "noisy/b.wav").write_bytes(b"nothing")
    result = scan_pairs(tmp_path / "clean", tmp_path / "noisy", tmp_path / "data.jsonl", quiet=True)
    assert [pair.clean.name for pair in result.pairs] == ["a.wav"]
    assert len((tmp_path / "data.jsonl").read_text().splitlines()) == 1
    causes = {f"{Path(name).parent.name}/{Path(name).name}": cause for name, cause in result.unreadable}
    assert causes.keys() == {"noisy/b.wav", "clean/c.wav", "noisy/d.wav", "clean/long.wav"}
    assert causes["clean/c.wav"] == "has no noisy partner" and causes["noisy/d.wav"] == "has no clean partner"
    assert "differ in length by 0.2 s" in causes["clean/long.wav"]
    (tmp_path / "more").mkdir()
    corpora(build(train=tmp_path / "clean", noisy=tmp_path / "noisy"), tmp_path / "more/headers.jsonl")
    assert capsys.readouterr().err.count("left out") == 4


def test_partners_in_subfolders_are_matched_by_path_and_beside_a_list_by_name(tmp_path):
    for side, where in (("clean", "one"), ("clean", "two"), ("noisy", "one"), ("noisy", "two"), ("flat", "")):
        for name in ("a", "b") if where != "two" else ("a",):
            audio.write(tmp_path / side / where / f"{name}.wav", tone(300, 0.1, RATE).numpy(), RATE)
    pairs = paired(tmp_path / "clean", tmp_path / "noisy", quiet=True).pairs
    assert [[str(path.relative_to(tmp_path)) for path in pair] for pair in pairs] == [
        [f"{side}/{name}.wav" for side in ("clean", "noisy")] for name in ("one/a", "one/b", "two/a")
    ]
    (tmp_path / "flat.json").write_text('["flat/b.wav"]')
    by_list = paired(tmp_path / "flat.json", tmp_path / "noisy/one", quiet=True)
    assert by_list.pairs == [Pair(tmp_path / "flat/b.wav", tmp_path / "noisy/one/b.wav")]
    with pytest.raises(InputError, match="share the name"):
        paired(tmp_path / "flat.json", tmp_path / "noisy", quiet=True)


def test_wrong_sources_are_explained_in_one_line(folder, tmp_path):
    (tmp_path / "list.json").write_text('{"a": 1}')
    (tmp_path / "noisy.jsonl").write_text(
        json.dumps({"path": str(folder / "clean/p1_0.wav"), "rate": RATE, "channels": 1, "frames": 9, "noisy": "x.wav"})
    )
    for values, words in (
        ({"train": tmp_path / "none"}, "none: is no folder, no .jsonl"),
        ({"train": tmp_path / "list.json"}, "expected a list of file names"),
        ({"train": tmp_path / "noisy.jsonl"}, "1 of 1 noisy files are missing"),
        ({"train": folder / "clean"}, "has no noisy partner"),
        ({"train": folder / "clean", "noisy": folder / "noise"}, "no two names match"),
        ({"train": folder / "clean", "noisy": folder / "noisy", "held_out": ["p3"]}, "begins with p3"),
        ({"train": folder / "clean", "noisy": folder / "noisy", "held_out": ["p"]}, "no file to train on"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            corpora(build(**values), tmp_path / "headers.jsonl", quiet=True)
        assert "\n" not in str(caught.value)


def test_held_out_speakers_are_validated_on_and_not_trained_on(folder, tmp_path):
    data = build(train=folder / "clean", noisy=folder / "noisy", held_out=["p2"])
    train, valid = corpora(data, tmp_path / "headers.jsonl", quiet=True)
    assert [pair.clean.name for pair in train.pairs] == ["p1_0.wav", "p1_1.wav"]
    assert [pair.clean.name for pair in valid.pairs] == ["p2_2.wav"]


# --- samples ---------------------------------------------------------------------------------------------


def test_a_pair_is_normalised_cut_and_padded_as_in_the_original(stored_case, tmp_path):
    case = stored_case("dataset_item")
    for side in ("clean", "noisy"):
        audio.write(tmp_path / f"{side}.wav", case.inputs[f"{side}_int16"].numpy()[None] / np.float32(32768), RATE)
    clean, noisy = (audio.read(tmp_path / f"{side}.wav").samples for side in ("clean", "noisy"))
    assert samples.norm_factor(noisy) == pytest.approx(float(case.outputs["norm_factor"]), rel=1e-6)
    clean, noisy = normalised(clean, noisy)
    start, size = int(case.inputs["start"]), case.config["segment_size"]
    clean_cut, noisy_cut = (samples.piece(x, start, size) for x in (clean, noisy))
    np.testing.assert_allclose(clean_cut[0], case.outputs["clean_audio"].numpy(), atol=1e-5)
    padded = samples.piece(clean, 0, case.config["padded_segment_size"])[0, -1500:]
    np.testing.assert_allclose(padded, case.outputs["padded_clean_audio"].numpy(), atol=1e-5)
    for side, x in (("clean", clean_cut), ("noisy", noisy_cut)):
        spectrum = CompressedSTFT(400, 100, 400, 0.3)(torch.from_numpy(x))
        magnitude, phase = case.outputs[f"{side}_mag"], case.outputs[f"{side}_pha"]
        assert (spectrum.magnitude[0] - magnitude).abs().max() < 2e-3  # 1e-5 with the original's FFT
        turn = torch.polar(torch.ones(()), spectrum.phase[0] - phase) - 1  # modulo 2 pi
        assert (turn.abs() * magnitude).max() < 2e-3


def test_a_sample_of_pairs_is_a_place_of_the_normalised_files(folder, tmp_path):
    data = build(train=folder / "clean", noisy=folder / "noisy", seconds=0.25)
    source = training(data, corpus(data, tmp_path), RATE, seed=3)
    names, starts = set(), set()
    for index in range(6):
        sample = source[index]
        assert sample["clean"].shape == sample["noisy"].shape == (1, RATE // 4)
        path = Path(source.name(index))
        names.add(path.stem)
        whole = normalised(audio.read(folder / f"clean/{path.stem}.wav").samples, audio.read(path).samples)[1]
        places = np.flatnonzero(np.isclose(whole[0], float(sample["noisy"][0, 0]), atol=1e-7))
        starts |= {at for at in places if np.allclose(whole[0, at : at + 4000], sample["noisy"][0], atol=1e-7)}
    assert names == {"p1_0", "p1_1", "p2_2"} and len(starts) == 6


@pytest.mark.parametrize("kind", ["pairs", "mixed", "both"])
def test_a_sample_depends_on_seed_and_index_alone(folder, tmp_path, kind):
    partner = {"noisy": folder / "noisy"} if kind != "mixed" else {}
    more = {} if kind == "pairs" else {"noise": [folder / "noise"], "made": ["coloured", "babble", "music"]}
    more |= {"more": [folder / "clean"]} if kind == "both" else {}
    varied = {"gain_db": [-10, 0], "band_limit": 0.5, "silence": 0.2, "clean": 0.2, "pcs": "level", "seconds": 0.5}
    data = build(train=folder / "clean", **partner, **more, **varied)
    one, same, other = (training(data, corpus(data, tmp_path), RATE, seed) for seed in (1, 1, 2))
    forwards = [one[index] for index in range(8)]
    for index in reversed(range(8)):
        for side in ("clean", "noisy"):
            assert torch.equal(forwards[index][side], same[index][side])
            assert forwards[index][side].shape == (1, RATE // 2)
    assert sum(not torch.equal(forwards[index]["noisy"], other[index]["noisy"]) for index in range(8)) >= 7


def test_mixed_samples_have_a_ratio_in_the_range_and_the_level_1(folder, tmp_path):
    data = build(train=folder / "clean", noise=[folder / "noise"], snr_db=[-3, 7], seconds=0.8)
    source = training(data, corpus(data, tmp_path), RATE, seed=0)
    ratios = []
    for index in range(12):
        clean, noisy = (source[index][side].numpy() for side in ("clean", "noisy"))
        assert power(noisy) == pytest.approx(1, rel=1e-4)
        ratios.append(10 * math.log10(power(clean) / power(noisy - clean)))
    assert min(ratios) >= -3.01 and max(ratios) <= 7.01 and max(ratios) - min(ratios) > 5


def test_shares_of_silence_and_clean_speech(folder, tmp_path):
    for partner in ({"noisy": folder / "noisy"}, {"noise": [folder / "noise"]}):
        data = build(train=folder / "clean", **partner, silence=0.4, clean=0.4, seconds=0.5, gain_db=[-20, -20])
        source = training(data, corpus(data, tmp_path), RATE, seed=0)
        pairs = [source[index] for index in range(60)]
        silent = sum(not pair["clean"].any() and pair["noisy"].any() for pair in pairs)
        equal = sum(torch.equal(pair["clean"], pair["noisy"]) for pair in pairs)
        assert 12 <= silent <= 36 and 12 <= equal <= 36 and silent + equal < 60
        for pair in pairs:
            assert 10 * math.log10(power(pair["noisy"].numpy())) == pytest.approx(-20, abs=1.5)


def test_silent_recordings_give_silence_and_no_nan(tmp_path):
    audio.write(tmp_path / "clean/a.wav", np.zeros((1, 4000), np.float32), RATE)
    audio.write(tmp_path / "noisy/a.wav", np.zeros((1, 4000), np.float32), RATE)
    data = build(train=tmp_path / "clean", noisy=tmp_path / "noisy", seconds=0.5, pcs="peak")
    sample = Pairs(data, corpus(data, tmp_path), RATE, 0)[0]
    assert not sample["clean"].any() and not sample["noisy"].any()


def test_another_microphone_is_heard_on_both_sides(folder, tmp_path):
    settings = {"train": folder / "clean", "noise": [folder / "noise"], "seconds": 0.8, "clean": 1.0}
    plain, recorded = (
        training(build(**settings, microphone=share), corpus(build(**settings), tmp_path), RATE, seed=0)[0]
        for share in (0.0, 1.0)
    )
    assert torch.equal(recorded["clean"], recorded["noisy"]) and not torch.equal(recorded["clean"], plain["clean"])

    speech = audio.read(next(iter(sorted((folder / "clean").glob("*.wav"))))).samples[:, : RATE // 2]
    hiss_db = []
    for seed in range(20):
        heard = samples.recorded(speech, RATE, np.random.default_rng(seed))
        assert heard.shape == speech.shape and heard.dtype == np.float32
        hiss_db.append(10 * np.log10(power(heard - speech) / power(speech)))
    assert len(set(hiss_db)) == 20 and max(hiss_db) < 3
    assert not samples.recorded(np.zeros((1, 100), np.float32), RATE, np.random.default_rng(0)).any()


def test_both_sides_lose_the_same_band(folder, tmp_path):
    data = build(train=folder / "clean", noise=[folder / "noise"], band_limit=1, band_hz=[2000, 2000], seconds=0.5)
    sample = training(data, corpus(data, tmp_path), RATE, seed=0)[0]
    data = build(train=folder / "clean", made=["coloured"], band_limit=1, band_hz=[2000, 2000], seconds=0.5)
    for x in (sample, training(data, corpus(data, tmp_path), RATE, seed=0)[1]):
        spectrum = x["noisy"].double().numpy()[0] * np.hanning(8000)
        power_by_hz = np.square(np.abs(np.fft.rfft(spectrum)))
        assert power_by_hz[1200:].sum() < 1e-6 * power_by_hz.sum()  # 2 Hz a bin


def test_stretched_targets_keep_their_level_or_have_the_originals(folder, tmp_path):
    levels = {}
    for pcs in ("no", "level", "peak"):
        data = build(train=folder / "clean", noisy=folder / "noisy", pcs=pcs, seconds=1.0)
        source = training(data, corpus(data, tmp_path), RATE, seed=0)
        sample = source[0]
        factor = samples.norm_factor(audio.read(source.name(0)).samples)
        levels[pcs] = power(sample["clean"].numpy()), float(sample["clean"].abs().max()) / factor
    assert levels["level"][0] == pytest.approx(levels["no"][0], rel=1e-2)
    assert levels["peak"][1] == pytest.approx(1, rel=1e-3) and levels["no"][1] < 0.2


def test_validation_is_the_same_each_time_and_has_its_ratios_in_turn(folder, tmp_path):
    values = {"train": folder / "clean", "noise": [folder / "noise"], "valid": folder / "clean"}
    data = build(**values, valid_snr_db=[0, 10])
    valid = corpora(data, tmp_path / "headers.jsonl", quiet=True)[1]
    held, again = Held(data, valid, RATE), Held(data, valid, RATE)
    assert len(held) == 3
    for index, ratio in enumerate((0, 10, 0)):
        clean, noisy = (held[index][side].numpy() for side in ("clean", "noisy"))
        assert clean.shape == (1, RATE)
        assert 10 * math.log10(power(clean) / power(noisy - clean)) == pytest.approx(ratio, abs=0.01)
        np.testing.assert_array_equal(noisy, again[index]["noisy"].numpy())
    centre = Held(build(**values, valid_seconds=0.5, valid_snr_db=[0, 10], made=["hum"]), valid, RATE)
    torch.testing.assert_close(centre[1]["noisy"], held[1]["noisy"][:, 4000:12000])


@pytest.mark.parametrize("kind", ["coloured", "babble", "hum", "clicks", "music"])
@pytest.mark.parametrize(("length", "rate"), [(1, 16000), (777, 8000), (32000, 16000)])
def test_made_noises_have_one_level_and_repeat(kind, length, rate):
    def made(seed):
        return noises.noise(kind, length, rate, np.random.default_rng(seed), lambda rng: rng.standard_normal(length))

    assert made(0).shape == (1, length) and made(0).dtype == np.float32
    np.testing.assert_array_equal(made(0), made(0))
    if length > 1:
        assert power(made(0)) == pytest.approx(1, rel=1e-3) and not np.array_equal(made(0), made(1))


def test_a_ratio_needs_two_sides():
    x, silence = noise(0, 0.1).numpy(), np.zeros((1, 1600), np.float32)
    np.testing.assert_array_equal(mixed(silence, x, 5), x)
    np.testing.assert_array_equal(mixed(x, silence, 5), x)


def test_settings_that_contradict_themselves_are_refused():
    for values, words in (
        ({"seconds": 0}, "seconds"),
        ({"snr_db": [5, 0]}, "snr_db: expected the lower end first"),
        ({"silence": 1.5}, "silence is a share"),
        ({"silence": 0.6, "clean": 0.6}, "more than 1"),
        ({"made": ["hmu"]}, "did you mean hum"),
        ({"valid_snr_db": []}, "at least one ratio"),
    ):
        with pytest.raises(InputError, match=words):
            build(**values)
