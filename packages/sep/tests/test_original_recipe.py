"""The original's recipes of both schemas become ours."""

import json
from dataclasses import replace

import pytest
from audio_core import config
from audio_core.command import load_recipe
from audio_core.files import InputError
from audio_sep import cli
from audio_sep.original_recipe import migrated, read_recipe
from audio_sep.recipe import Recipe

LATER = """
task_name: musdb18
train:
  input_source_types: [vocals, accompaniment]
  target_source_types: [vocals]
  paired_input_target_data: False
  indexes_dict_path: "indexes/musdb18/train/sr=44100,vocals-accompaniment.pkl"
  sample_rate: 44100
  input_channels: 2
  output_channels: 2
  segment_seconds: 3.0
  batch_data_preprocessor: MixtureTarget
  model_type: ResUNet143_Subbandtime
  loss_type: l1_wav
  optimizer_type: Adam
  mini_data: False
  augmentations:
    remixing_sources: True
    mixaudio: {vocals: 2, accompaniment: 2}
    pitch_shift: {vocals: 0, accompaniment: 0}
    magnitude_scale:
      vocals: {lower_db: 0, higher_db: 0}
      accompaniment: {lower_db: 0, higher_db: 0}
    swap_channel: {vocals: False, accompaniment: False}
    flip_axis: {vocals: False, accompaniment: False}
  evaluation_callback: Musdb18
  learning_rate: 1e-3
  batch_size: 16
  precision: 32
  steps_per_epoch: 10000
  evaluate_step_frequency: 10000
  save_step_frequency: 50000
  early_stop_steps: 500001
  warm_up_steps: 1000
  reduce_lr_steps: 15000
  random_seed: 1234
  resume_checkpoint_path: ""
evaluate: {segment_seconds: 30.0, batch_size: 1}
"""
EARLIER = """
task_name: vctk-musdb18
train:
  input_source_types: [speech, accompaniment]
  target_source_types: [speech]
  indexes_dict: "indexes/speech-accompaniment.pkl"
  sample_rate: 44100
  channels: 1
  segment_seconds: 2.5
  batch_data_preprocessor: BasicBatchDataPreprocessor
  model_type: UNet
  loss_type: l1_wav_l1_sp
  augmentation:
    magnitude_scale:
      speech: {lower_db: -10, higher_db: 10}
      accompaniment: {lower_db: -30, higher_db: 10}
  mixaudio: {speech: 3}
  evaluation_callback: Musdb18EvaluationCallback
  learning_rate: 5e-4
  batch_size: 8
  precision: 32
  early_stop_steps: 100001
  warm_up_steps: 10
  reduce_lr_steps: 20
  resume_checkpoint: vocals.pth
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        (tmp_path / "bytesep.yaml").write_text(text)
        return tmp_path / "bytesep.yaml"

    return write


@pytest.fixture
def migrate(write):
    """Our recipe for the text of an original's, and its YAML."""

    def migrate(text, settings=()):
        ours = migrated(write(text), settings)
        return config.build(Recipe, config.parse(ours, "ours")), ours

    return migrate


def test_a_published_recipe_becomes_the_one_in_the_wheel(migrate):
    recipe, text = migrate(LATER)
    assert config.differences(recipe, load_recipe(Recipe, "audio_sep", "vocals-resunet-subband")) == ["save_every"]
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert "swap is on for every source" in comment[1] and "polarity is on" in comment[2]
    assert "sr=44100,vocals-accompaniment.pkl give data.packs" in comment[3] and len(comment) == 4


def test_flags_that_are_not_in_the_recipe_are_off(migrate):
    lines = [line for line in LATER.splitlines() if "swap_channel" not in line]
    recipe, text = migrate("\n".join(lines))
    assert not recipe.data.augment["vocals"].swap and recipe.data.augment["vocals"].polarity
    assert "swap is on" not in text and "polarity is on" in text
    _, text = migrate(LATER.replace("vocals: False, accompaniment: False", "vocals: True, accompaniment: True"))
    assert "is on for every source" not in text  # as the recipe says


def test_a_recipe_of_the_earlier_schema_is_read(migrate):
    recipe, text = migrate(EARLIER, ["data.packs=packs", "workers=1"])
    assert str(recipe.data.packs) == "packs" and recipe.workers == 1
    assert config.plain(recipe.model)["channels"] == 1 and config.kind(type(recipe.model)) == "UNet"
    steps = recipe.data.augment
    assert steps["speech"].gain_db == (-10, 10) and steps["accompaniment"].gain_db == (-30, 10)
    assert (steps["speech"].mix, steps["accompaniment"].mix) == (3, 1) and not steps["speech"].swap
    assert (recipe.loss, recipe.batch, recipe.steps, recipe.optimizer.lr) == ("l1_wav_l1_sp", 8, 100000, 5e-4)
    assert (recipe.schedule.warmup, recipe.schedule.every) == (10, 20)
    assert "it began with vocals.pth: convert that, and give pretrained=BUNDLE" in text


def test_conditional_models_and_half_precision_are_read(migrate):
    text = LATER.replace("MixtureTarget", "MixtureTargetConditional").replace(
        "ResUNet143_Subbandtime", "ConditionalUNet"
    )
    text = text.replace("target_source_types: [vocals]", "target_source_types: [vocals, accompaniment]")
    recipe, _ = migrate(text.replace("precision: 32", "precision: 16"))
    assert config.kind(type(recipe.model)) == "ConditionalUNet" and recipe.precision == "fp16"
    assert recipe.model.sources == ("vocals", "accompaniment")


def test_adamw_has_no_decay_as_in_the_original(migrate):
    recipe, _ = migrate(LATER.replace("Adam\n", "AdamW\n"))
    assert config.kind(type(recipe.optimizer)) == "AdamW" and recipe.optimizer.weight_decay == 0
    assert replace(recipe.optimizer, weight_decay=0.1) != recipe.optimizer


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate", "learning_rte", "unknown key train.learning_rte; did you mean train.learning_rate"),
        ("swap_channel", "swap_chanel", "did you mean train.augmentations.swap_channel"),
        ("task_name: musdb18\ntrain", "task_name: musdb18\ntrian", "did you mean train"),
        ("ResUNet143_Subbandtime", "LevelRNN", "whose code was never published"),
        ("ResUNet143_Subbandtime", "ResNet", "no model of the original"),
        ("MixtureTarget\n", "AmbisonicBinaural\n", "AmbisonicBinaural' is not one of MixtureTarget"),
        ("MixtureTarget\n", "MixtureTargetConditional\n", "does not fit ResUNet143_Subbandtime"),
        ("output_channels: 2", "output_channels: 1", "must be as many as input_channels"),
        ("target_data: False", "target_data: True", "no published model learns from paired data"),
        ("mixaudio: {vocals: 2", "mixaudio: {drums: 2", "mixaudio: drums is none of vocals, accompaniment"),
        ("target_source_types: [vocals]", "target_source_types: [drums]", "drums is none of data.inputs"),
        ("l1_wav", "l2_wav", "did you mean l1_wav"),
        ("batch_size: 16", "batch_size: many", "train.batch_size: expected int, got 'many'"),
        ("train:", "train: *x", "aliases"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_with_the_file(write, old, new, message):
    assert old in LATER
    with pytest.raises(InputError, match=message) as caught:
        migrated(write(LATER.replace(old, new)))
    assert str(caught.value).count("bytesep.yaml") == 1 and "\n" not in str(caught.value)


def test_only_recipes_are_recipes(write):
    with pytest.raises(InputError, match="is no recipe of Bytesep"):
        read_recipe(write("a: 1"))


def test_the_command_writes_a_recipe(write, tmp_path, capsys):
    original, ours = write(LATER), tmp_path / "ours.yaml"
    assert cli.main(["convert", str(original), "-o", str(ours), "batch=2", "--json"]) == 0
    assert config.load(Recipe, ours).batch == 2
    printed = capsys.readouterr()
    assert printed.err == f"wrote {ours}: Bytesep's recipe, train by it: audio-sep train {ours}\n"
    assert json.loads(printed.out) == {
        "path": str(ours),
        "class": "Recipe",
        "title": "Bytesep's recipe",
        "summary": f"train by it: audio-sep train {ours}",
    }
    for out, message in ((ours, "exists already"), (tmp_path / "bundle", "the name must end in .yaml")):
        assert cli.main(["convert", str(original), "-o", str(out)]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["convert", str(original), "-o", str(original), "--force"]) == 2
    assert original.read_text() == LATER
