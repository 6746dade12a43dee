"""The measurement for Evaluate in `hub_cards/sae_diversity`, loaded from its folder as from the Hub."""

import ast
import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from datasets import Dataset
from packaging.requirements import Requirement

from hf_sae_select import FeatureMatrix, __version__, encode
from hf_sae_select.encoding import language_model as activations
from hf_sae_select.features import metrics

evaluate = pytest.importorskip("evaluate", reason="pip install 'hf-sae-select[evaluate]'")

FOLDER = Path(__file__).parent.parent / "hub_cards" / "sae_diversity"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
TEXTS = ["the cat sat on the mat", "the dog sat on the mat", "a blue bird flew over the moon", ""]
REFERENCE = ["a small dog ran under the log", "the moon was red"]


@pytest.fixture
def diversity(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # evaluate adds its cache of modules
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    return evaluate.load(str(FOLDER), module_type="measurement")


def features(texts, sae, threshold=0.5):
    """By default the threshold of the fixture `sae`."""
    return FeatureMatrix.from_dataset(encode(Dataset.from_dict({"text": texts}), sae)).above(threshold)


def test_it_measures_what_the_metrics_say(diversity, sae):
    coded = features(TEXTS, sae)
    assert diversity.compute(data=TEXTS, sae=sae) == {
        "coverage": metrics.coverage(coded),
        "richness": metrics.richness(coded),
        "redundancy": metrics.redundancy(coded),
        "length_correlation": metrics.length_correlation(coded),
    }


def test_a_reference_may_have_any_length(diversity, sae):
    data, reference = (set(features(texts, sae).ids.tolist()) for texts in (TEXTS[:1], REFERENCE))
    numbers = diversity.compute(data=TEXTS[:1], reference=REFERENCE, sae=sae)
    assert 0 < len(reference - data) < len(reference)
    assert numbers["coverage"] == len(data)
    assert numbers["reference_coverage"] == len(reference)
    assert numbers["reference_share"] == len(reference & data) / len(reference)
    assert numbers["reference_missing"] == len(reference - data)
    assert numbers["overlap"] == len(reference & data) / len(reference | data)


def test_numbers_are_plain_python(diversity, sae):
    numbers = diversity.compute(data=TEXTS, reference=REFERENCE, sae=sae)
    assert len(numbers) == 8 and {type(number) for number in numbers.values()} == {int, float}


def test_threshold_top_and_length_cut_the_features(diversity, sae):
    coded = features(TEXTS, sae, threshold=4).top(3)
    assert 0 < coded.counts.max() <= 3
    numbers = diversity.compute(data=TEXTS, sae=sae, threshold=4, top=3)
    assert (numbers["coverage"], numbers["richness"]) == (metrics.coverage(coded), metrics.richness(coded))
    assert diversity.compute(data=["the cat", "the bird"], sae=sae, max_length=1)["redundancy"] == 1


def test_an_sae_may_be_a_folder(diversity, sae, tmp_path):
    sae.save_pretrained(tmp_path / "sae")
    assert diversity.compute(data=TEXTS, sae=tmp_path / "sae") == diversity.compute(data=TEXTS, sae=sae)


def test_texts_may_be_added_one_by_one_or_come_as_a_column(diversity, sae):
    whole = diversity.compute(data=TEXTS, sae=sae)
    assert diversity.compute(data=Dataset.from_dict({"text": TEXTS})["text"], sae=sae) == whole
    diversity.add(data=TEXTS[0])
    diversity.add_batch(data=TEXTS[1:])
    assert diversity.compute(sae=sae) == whole


@pytest.mark.parametrize("kind", [tuple, np.array, lambda texts: pd.Series(["no", *texts])[1:]])
def test_texts_may_come_in_any_row_of_strings(diversity, sae, kind):
    whole = diversity.compute(data=TEXTS, reference=REFERENCE, sae=sae)
    assert diversity.compute(data=kind(TEXTS), reference=kind(REFERENCE), sae=sae) == whole


def test_without_any_texts_data_is_missing(diversity, sae):
    for _ in range(2):  # a second time as well, when others have been measured
        with pytest.raises(ValueError, match="`data` is missing; pass a list of strings, or `add` them first"):
            diversity.compute(reference=REFERENCE, sae=sae)
        diversity.compute(data=TEXTS, sae=sae)


def test_a_reference_is_encoded_once(diversity, sae, monkeypatch):
    diversity.compute(data=TEXTS, reference=REFERENCE, sae=sae)
    monkeypatch.setattr(activations.LanguageModel, "from_pretrained", None)  # from here on only the cache can serve
    assert diversity.compute(data=REFERENCE, reference=TEXTS, sae=sae)["reference_share"] > 0


def test_blank_texts_cover_nothing(diversity, sae):
    with pytest.warns(UserWarning, match="rows are blank"):
        numbers = diversity.compute(data=["", ""], reference=[""], sae=sae)
    assert (numbers["coverage"], numbers["richness"], numbers["redundancy"]) == (0, 0, 1)
    assert math.isnan(numbers["length_correlation"]) and math.isnan(numbers["reference_share"])
    assert (numbers["reference_coverage"], numbers["reference_missing"], numbers["overlap"]) == (0, 0, 1)


@pytest.mark.parametrize("name", ["data", "reference"])
@pytest.mark.parametrize(
    "texts, error, says",
    [([], ValueError, "is empty; pass at least one text"), ("the cat", TypeError, "pass \\[text\\] for one text")]
    + [(texts, TypeError, "must be a list of strings") for texts in ([1, 2], ["the cat", None], 5)]
    + [
        ({"the cat": "sat"}, TypeError, "is a dict; it must be a list of strings"),
        ({"the cat"}, TypeError, "is a set; it must be a list of strings"),
        (pd.DataFrame({"text": ["the cat"]}), TypeError, "is a DataFrame; .* or one column"),
    ],
)
def test_other_than_texts_are_refused(diversity, name, texts, error, says):
    with pytest.raises(error, match=f"`{name}` {says}|`{name}` .*{says}"):
        diversity.compute(**{"data": TEXTS, name: texts})


@pytest.mark.parametrize("options", [{"threshold": -1}, {"threshold": "high"}, {"top": 0}, {"top": True}])
def test_cuts_that_make_no_sense_are_refused(diversity, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}=.*` must be a .*number >= [01], or None"):
        diversity.compute(data=TEXTS, **options)


def test_names_that_evaluate_would_drop_are_refused(diversity):
    with pytest.raises(TypeError, match="unexpected keyword argument 'references'"):
        diversity.compute(data=TEXTS, references=REFERENCE)


def test_the_card_s_example_measures_what_it_says(diversity):
    code, shown = re.findall(r"```python\n(.*?)```", CARD.partition("### Examples")[2], re.S)
    names = {"diversity": diversity}
    exec(code, names)
    for name, numbers in ast.literal_eval(f"{{{shown}}}").items():
        assert names[name] == pytest.approx(numbers, abs=1e-3)


def test_the_card_names_every_number_and_argument(diversity, sae):
    numbers = diversity.compute(data=TEXTS, reference=REFERENCE, sae=sae)
    arguments = set(type(diversity).compute.__kwdefaults__)
    assert set(re.findall(r"^- \*\*(\w+)\*\*", CARD, re.M)) == numbers.keys() | arguments
    assert set(re.findall(r"^    (\w+) \(", diversity.inputs_description, re.M)) == numbers.keys() | arguments


def test_the_folder_is_a_space_for_evaluate():
    header = yaml.safe_load(CARD.split("---")[1])
    assert (header["sdk"], header["app_file"]) == ("gradio", "app.py") and (FOLDER / "app.py").is_file()
    assert header["tags"] == ["evaluate", "measurement", "hf-sae-select"]
    requirement = Requirement((FOLDER / "requirements.txt").read_text(encoding="utf-8").splitlines()[0])
    assert requirement.name == "hf-sae-select" and __version__ in requirement.specifier
