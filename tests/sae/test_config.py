"""Configs with impossible values are refused by the name of the value."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from hf_sae_select import SaeConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"d_in": 1.5}, "`d_in=1.5` must be a positive integer"),
        ({"d_sae": 0}, "`d_sae=0` must be a positive integer"),
        ({"d_out": True}, "`d_out=True` must be a positive integer, or None"),
        ({"activation": "gelu"}, "unknown `activation='gelu'`; choose one of: relu, jumprelu, topk"),
        ({"input_norm": "batch"}, "unknown `input_norm='batch'`; choose one of: none, layer_norm, rms"),
        ({"side": "both"}, "unknown `side='both'`; choose one of: output, input"),
        ({"model": ""}, "`model=''` must be a non-empty string"),
        ({"hook": None}, "`hook=None` must be a non-empty string"),
        ({"hook": "a\nb"}, r"`hook='a\nb'` must be a non-empty string of printable characters"),
        *(
            ({"model_revision": revision}, f"`model_revision={revision!r}` must be a branch, a tag or a commit")
            for revision in ("../../x", "/etc", "a//b", "", "a b", 5)
        ),
        ({"activation": "topk"}, "`k=None` must be an integer from 1 to d_sae=3 with `activation='topk'`"),
        ({"activation": "topk", "k": 4}, "`k=4` must be an integer from 1 to d_sae=3"),
        ({"activation": "abstopk", "k": 2.0}, "`k=2.0` must be an integer from 1 to d_sae=3"),
        ({"activation": "groupmax", "k": 2}, "`k=2` must divide d_sae=3"),
        ({"k": 0}, "`k=0` must be a positive integer, or None"),
        ({"context_size": "long"}, "`context_size='long'` must be a positive integer, or None"),
        ({"prepend_bos": "yes"}, "unknown `prepend_bos='yes'`; choose one of: True, False, None"),
        ({"skip": None}, "`skip=None` must be True or False"),
        ({"skip_first": "no"}, "`skip_first='no'` must be True or False"),
        ({"l0": -1}, "`l0=-1` must be a finite number in [0, inf), or None"),
        ({"max_norm_ratio": 0.5}, "`max_norm_ratio=0.5` must be a finite number in [1, inf), or None"),
        ({"feature_threshold": float("nan")}, "`feature_threshold=nan` must be a finite number in [0, inf)"),
        ({"source": "here"}, "`source='here'` must be a dict of JSON values"),
        ({"training": {"seed": {1}}}, "`training` must be a dict of JSON values"),
        *(
            ({"training": {"tokens": x}}, "`training` must be a dict of JSON values")
            for x in (float("nan"), float("inf"))
        ),
    ],
    ids=str,
)
def test_impossible_values_are_refused(values, message):
    possible = {"d_in": 2, "d_sae": 3, "activation": "relu", "model": "m", "hook": "h"}
    with pytest.raises(ValueError, match=re.escape(message)):
        SaeConfig(**possible | values)


def test_numbers_of_numpy_can_be_saved():
    config = SaeConfig(np.int64(2), np.int32(3), "relu", model="m", hook="h", feature_threshold=np.float32(0.5), l0=20)
    assert json.loads(json.dumps(asdict(config)))["feature_threshold"] == 0.5
    assert (config.d_in, config.d_sae) == (2, 3) and type(config.d_in) is int
    assert type(config.l0) is int  # a number of Python keeps its type


def test_from_dict_ignores_other_names_and_misses_no_required_one():
    values = {"d_in": 2, "d_sae": 3, "activation": "relu", "model": "m", "hook": "h", "library_name": "x"}
    assert SaeConfig.from_dict(values) == SaeConfig(2, 3, "relu", model="m", hook="h")
    with pytest.raises(ValueError, match="the config lacks `hook`"):
        SaeConfig.from_dict(values | {"hook": None})
