"""Changing configurations of stable-audio-tools, and reading what came of it."""

import copy
import json
from functools import reduce

import pytest
from audio_core import config
from audio_core.files import InputError
from audio_gen import model_config
from audio_gen.recipe import Recipe


def changed(data, **changes):
    """A copy with other values at `a__b__c`; None takes one away."""
    data = copy.deepcopy(data)
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = reduce(lambda part, key: part[key], parents, data)
        if value is None:
            del inner[last]
        else:
            inner[last] = value
    return data


def refused(data, text, *settings):
    with pytest.raises(InputError) as caught:
        model_config.understood(data).settled(settings)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def recipe_of(tmp_path, data, *settings):
    path = tmp_path / "model_config.json"
    path.write_text(json.dumps(data))
    text = model_config.migrated(path, settings)
    return config.build(Recipe, config.parse(text, "recipe.yaml")), text
