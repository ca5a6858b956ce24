"""The network on paper against the published numbers."""

from dataclasses import replace

import pytest
from audio_acdnet import cost
from audio_acdnet.config import ACDNET, FIRST_BLOCK, MICRO, ACDNetConfig, accepted, frames, pools
from audio_acdnet.labels import ESC10, ESC50, URBANSOUND8K
from audio_acdnet.model import ACDNet
from audio_core import config
from audio_core.files import InputError

DEPLOYED = (4, 32, 12, 12, 23, 18, 38, 43, 62, 58, 77, 37)
TEN = {"channels": (*ACDNET[:11], 10), "labels": ESC10}
TWO = (2, 2)


@pytest.mark.parametrize(
    ("settings", "parameters", "flops"),
    [
        ({}, 4_735_378, 544_422_040),
        ({"rate": 44100, "samples": 66650}, 4_735_378, 570_352_984),
        (TEN, 4_712_378, 544_255_080),
        ({"channels": MICRO}, 131_474, 14_822_095),
        ({"channels": MICRO, "labels": ESC10}, 129_514, 14_820_095),
        ({"channels": DEPLOYED}, 131_285, 18_238_612),
    ],
)
def test_parameters_and_flops_are_the_published_ones(settings, parameters, flops):
    given = ACDNetConfig(**settings)
    assert cost.parameters(given) == parameters
    assert cost.flops(given) == flops
    assert sum(weight.numel() for weight in ACDNet(given).parameters()) == parameters


def test_the_multiplications_of_micro():
    given = ACDNetConfig(channels=MICRO)
    assert cost.macs(given) == 14_286_134
    first = sum(layer.macs for layer in cost.layers(given) if layer.name in FIRST_BLOCK)
    assert first == 15109 * 7 * 9 + 7553 * 20 * 7 * 5


@pytest.mark.parametrize(
    ("height", "samples", "rate", "maxima", "average"),
    [
        (64, 30225, 20000, [TWO] * 5, (2, 4)),
        (20, 30225, 20000, [TWO] * 4 + [(1, 2)], (1, 4)),
        (32, 30225, 20000, [TWO] * 5, (1, 4)),
        (64, 20000, 20000, [TWO] * 5, (2, 3)),
        (20, 60000, 20000, [TWO] * 4 + [(1, 2)], (1, 9)),
        (64, 8200, 20000, [TWO] * 5, (2, 1)),
        (64, 100000, 20000, [TWO] * 5, (2, 15)),
        (64, 16000, 16000, [TWO] * 5, (2, 3)),
        (7, 30225, 20000, [TWO, TWO, (1, 2), (1, 2), (1, 2)], (1, 4)),
        (7, 3500, 20000, [TWO, TWO, (1, 2), (1, 2), (1, 1)], (1, 1)),
    ],
)
def test_pools_follow_height_and_duration(height, samples, rate, maxima, average):
    channels = (8, height, *ACDNET[2:])
    plan = pools(ACDNetConfig(rate, samples, channels))
    assert list(plan.maxima) == maxima
    assert plan.average == average


@pytest.mark.parametrize(("rate", "pool"), [(20000, 50), (44100, 110), (16000, 40), (22050, 55)])
def test_the_first_pool_is_ten_milliseconds_and_only_the_rate_sets_it(rate, pool):
    for seconds in (1, 1.7, 3):
        assert pools(ACDNetConfig(rate, int(seconds * rate))).first == pool


def test_shapes_of_the_maps_of_micro():
    table = {layer.name: layer.shape for layer in cost.layers(ACDNetConfig(channels=MICRO))}
    assert table["conv1"] == (7, 1, 15109)
    assert table["conv2"] == (20, 1, 7553)
    assert table["pool"] == (20, 1, 151)
    assert table["conv3"] == (10, 20, 151)
    assert table["pool1"] == (10, 10, 75)
    assert table["conv7"] == (35, 5, 37)
    assert table["pool5"] == (69, 1, 4)
    assert table["average"] == (48, 1, 1)


def test_frames_come_from_the_convolutions_and_pools_from_the_duration():
    given = ACDNetConfig(16000, 16000, TEN["channels"], ESC10)
    assert frames(given) == 99
    assert pools(given).average == (2, 3)  # planned for 100


def test_the_lengths_that_fit_end_where_the_floors_change():
    given = ACDNetConfig()
    shortest, longest = accepted(given)
    assert shortest <= 30000 and longest >= 45000 and longest < 60000
    plan = pools(given)
    least = 32 * plan.average[1]
    assert [frames(given, samples) for samples in (shortest - 1, shortest)] == [least - 1, least]
    assert [frames(given, samples) for samples in (longest, longest + 1)] == [2 * least - 1, 2 * least]


def test_memory_of_micro_falls_from_layers_to_the_device():
    given = ACDNetConfig(channels=MICRO)
    needs = cost.layer_memory(given)
    assert max(needs, key=needs.__getitem__) == "conv2" and needs["conv2"] == 105_763 + 151_060
    parts = cost.device_memory(given)
    assert (parts["columns"], parts["even maps"], parts["odd maps"]) == (20 * 151, 10 * 10 * 75, 14 * 10 * 75)
    assert parts["lines of sums"] == 4 * 2 * 151 and sum(parts.values()) == 22_377


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"channels": [8, 64]}, "12 positive"),
        ({"labels": ["dog", "dog"]}, "only once"),
        ({"samples": 12800}, "need 12813 to 25612"),
        ({"normalisation": "none"}, "full_scale"),
        ({"rate": 100}, "at least 400"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_why(wrong, words):
    with pytest.raises(InputError, match=words):
        config.build(ACDNetConfig, wrong)


def test_a_configuration_survives_the_way_to_a_file_and_back():
    given = ACDNetConfig(22050, 33000, MICRO, ("a", "b"), "full_scale_twice", (1, 2), 1e-3, 49, "global")
    assert config.build(ACDNetConfig, config.plain(given)) == given
    assert given.gain == 1 / 32768 and replace(given, normalisation="full_scale").gain == 1


def test_the_class_lists_are_in_the_order_of_their_numbers():
    assert (len(ESC50), len(set(ESC50)), len(ESC10), len(URBANSOUND8K)) == (50, 50, 10, 10)
    assert [ESC50[number] for number in (0, 15, 29, 37, 41, 49)] == [
        *("dog", "water_drops", "drinking_sipping", "clock_alarm", "chainsaw", "hand_saw")
    ]
    assert ESC10[5] == "crying_baby" and URBANSOUND8K[6] == "gun_shot"
