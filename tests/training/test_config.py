import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from helpers.training import SMALL

from hf_sae_select import TRAINING_PRESETS, SaeTrainingConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "l1"}, "`objective='l1'`; choose one of: topk, batchtopk, matryoshka, jumprelu"),
        ({"precision": "int8"}, "`precision='int8'`; choose one of: float32, bfloat16"),
        ({"dead_feature_threshold": 0}, "`dead_feature_threshold=0` must be a positive integer, or None"),
        ({"auxk_latents": 0.5}, "`auxk_latents=0.5` must be a positive integer"),
        ({"k": 0}, "`k=0` must be a positive integer"),
        ({"k": 65}, "`k=65` exceeds `d_sae=64`"),
        ({"train_batch_size_tokens": 1 << 20}, "`train_batch_size_tokens=1048576` exceeds `training_tokens=10240`"),
        ({"buffer_tokens": 511}, "`train_batch_size_tokens=512` exceeds"),
        ({"learning_rate": 0.0}, "`learning_rate=0.0` must be a finite number in (0, inf)"),
        ({"learning_rate": "1e-3"}, "`learning_rate='1e-3'` must be a finite number"),
        ({"max_norm_ratio": float("nan")}, "`max_norm_ratio=nan` must be a finite number in [1, inf)"),
        ({"max_norm_ratio": 0.5}, "`max_norm_ratio=0.5` must be a finite number in [1, inf)"),
        ({"auxk_alpha": -1}, "`auxk_alpha=-1` must be a finite number in [0, inf)"),
        ({"seed": -1}, "`seed=-1` must be a non-negative integer"),
        ({"warmup_steps": None}, "`warmup_steps=None` must be a non-negative integer"),
        ({"warmup_steps": True}, "`warmup_steps=True` must be a non-negative integer"),
        ({"warmup_steps": 1.0}, "`warmup_steps=1.0` must be a non-negative integer"),
        ({"decay_steps": -0.1}, "`decay_steps=-0.1` must be a non-negative integer"),
        ({"warmup_steps": 0.9}, "`warmup_steps=0.9` and `decay_steps=0.2` together exceed the 20 steps"),
        ({"warmup_steps": 17}, "`warmup_steps=17` and `decay_steps=0.2` together exceed the 20 steps"),
        ({"objective": "matryoshka", "group_fractions": "all"}, "`group_fractions='all'` must be increasing shares"),
        ({"objective": "matryoshka", "group_fractions": (float("nan"), 1)}, "must be increasing shares"),
        ({"objective": "matryoshka", "group_fractions": (0.5, 0.25, 1.0)}, "increasing shares of the `d_sae=64` lat"),
        ({"objective": "matryoshka", "group_fractions": (0.25, 0.5)}, "the last one 1"),
    ],
)
def test_errors_name_the_field_and_its_value(wrong, message):
    with pytest.raises(ValueError) as error:
        replace(SMALL, **wrong)
    assert message in str(error.value)


@pytest.mark.parametrize(("warmup_steps", "decay_steps"), [(0.1, 0.2), (2, 4), (2, 0.2)])
def test_the_learning_rate_rises_holds_and_falls(warmup_steps, decay_steps):
    config = replace(SMALL, learning_rate=1.0, warmup_steps=warmup_steps, decay_steps=decay_steps)
    rates = [config.learning_rate_at(step) for step in (0, 1, 2, 15, 16, 18, 19)]
    assert rates == [0.5, 1, 1, 1, 1, 0.5, 0.25]


def test_zero_steps_and_all_steps_are_allowed():
    constant = replace(SMALL, learning_rate=1.0, warmup_steps=0, decay_steps=0)
    assert {constant.learning_rate_at(step) for step in range(20)} == {1.0}
    replace(SMALL, training_tokens=512 * 3, warmup_steps=0.1, decay_steps=0.9)
    replace(SMALL, warmup_steps=20, decay_steps=0)


def test_numbers_of_other_types_become_json():
    config = replace(
        SMALL,
        k=np.int64(3),
        learning_rate=np.float32(0.5),
        warmup_steps=np.int32(2),
        auxk_alpha=Fraction(1, 4),
        group_fractions=[0.5, 1.0],
    )
    values = json.loads(json.dumps(config.to_dict()))
    assert values == config.to_dict()
    names = ("k", "learning_rate", "warmup_steps", "auxk_alpha", "group_fractions", "max_norm_ratio")
    assert [values[name] for name in names] == [3, 0.5, 2, 0.25, [0.5, 1.0], None]
    assert SaeTrainingConfig(**values) == config


def test_the_encoder_product_is_in_bfloat16_on_cuda_alone_unless_the_config_says_so():
    assert [SMALL.precision_on(device) for device in ("cpu", "mps", "cuda")] == ["float32", "float32", "bfloat16"]
    assert replace(SMALL, precision="float32").precision_on("cuda") == "float32"
    assert replace(SMALL, precision="bfloat16").precision_on("cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("d_sae", "k", "tokens"), [(64, 2, 20_000), (8192, 32, 20_000), (32_768, 64, 40_000), (131_072, 64, 160_000)]
)
def test_a_latent_that_should_fire_rarely_is_called_dead_late(d_sae, k, tokens):
    assert replace(TRAINING_PRESETS["topk"], d_sae=d_sae, k=k).tokens_until_dead == tokens
    assert replace(TRAINING_PRESETS["topk"], d_sae=d_sae, k=k, dead_feature_threshold=50).tokens_until_dead == 50


def test_the_sae_of_the_paper():
    paper = TRAINING_PRESETS["paper"]
    assert (paper.objective, paper.k, paper.d_sae) == ("topk", 128, 131_072)
    assert (paper.peak_learning_rate, paper.train_batch_size_tokens) == (7e-5, 4096)
    assert (paper.tokens_until_dead, paper.auxk_latents) == (10**7, 2048)
