import base64
import hashlib
import json
import re
import sys

import numpy as np
import pytest
from datasets import load_from_disk
from helpers.pools import coded, features_of
from helpers.reports import HOSTILE, TEXT_RECORD, labels_of, pool_of

import hf_sae_select
from hf_sae_select.concepts import payload
from hf_sae_select.concepts.page import embedded, is_report, shown
from hf_sae_select.concepts.payload import excerpt, fitted, holders_data
from hf_sae_select.concepts.repetition import Repetition

TEXTS = [f"text {i}" for i in range(12)]


def data_of(file):
    """Return what the script of a report reads."""
    text = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', file.read_text("utf-8"), re.S)
    return json.loads(text[1])


def visible(file):
    """Return the words of a page, without its scripts and styles."""
    text = re.sub(r"(?s)<(script|style).*?</\1>", " ", file.read_text("utf-8"))
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_every_pick_is_there_with_its_text_and_its_reason(tmp_path):
    subset = pool_of(TEXTS).sae_select(5, "greedy")
    file = subset.sae_report(tmp_path / "report.html", spans=0)
    data = data_of(file)
    assert [pick["row"] for pick in data["picks"]] == subset.sae_selection.indices.tolist()
    assert [pick["text"] for pick in data["picks"]] == subset["text"][:]
    assert data["picks"][0]["why"].startswith("It has 3 features that no earlier pick of the round has")
    assert "5 of 12 rows" in visible(file) and "“greedy” selects the row that adds the most features" in visible(file)


def test_without_the_extra_it_is_refused_before_a_model_reads_rows(tmp_path, monkeypatch):
    subset = pool_of(TEXTS).sae_select(5)
    monkeypatch.setitem(sys.modules, "altair", None)
    monkeypatch.setattr("hf_sae_select.concepts.report.full_contents", None)
    with pytest.raises(ImportError, match=r'need `altair`: pip install "hf-sae-select\[report\]"'):
        subset.sae_report(tmp_path / "report.html")


def test_the_same_selection_gives_the_same_bytes(tmp_path):
    subset = pool_of(TEXTS).sae_select(5)
    first, second = (subset.sae_report(tmp_path / name, spans=0).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_a_saved_selection_and_its_pool_give_the_report_of_the_subset(tmp_path):
    pool = pool_of(TEXTS)
    subset = pool.sae_select(5)
    subset.sae_selection.save(tmp_path / "selection.json")
    selection = hf_sae_select.Selection.load(tmp_path / "selection.json")
    own = subset.sae_report(tmp_path / "own.html", spans=0)
    again = hf_sae_select.report(selection, tmp_path / "again.html", pool=pool, spans=0)
    assert again.read_bytes() == own.read_bytes()


def test_a_selection_alone_gives_the_short_report(tmp_path):
    selection = pool_of(TEXTS).sae_select(5).sae_selection
    words = visible(hf_sae_select.report(selection, tmp_path / "report.html"))
    assert "this report is short" in words and "5 of 12 rows" in words and "cuts.top 256" in words


def test_labels_name_the_features(tmp_path):
    subset = pool_of(TEXTS).sae_select(5)
    file = subset.sae_report(tmp_path / "report.html", labels=labels_of(["anything", "two"]), spans=0)
    features = {feature[0]: feature for feature in data_of(file)["features"]}
    assert features[0][1:3] == ["anything", 0.9] and features[3][1:3] == ["", None]
    names = [feature[1] for feature in data_of(file)["features"]]
    assert names[:2] == ["anything", "two"] and not any(names[2:])  # named ones first


@pytest.mark.parametrize("method", ["concave", "greedy", "match", "simscale", "weighted"])
def test_a_reason_on_the_page_leaves_its_parts_to_the_page(tmp_path, method):
    subset = pool_of(TEXTS).sae_select(4, method)
    data = data_of(subset.sae_report(tmp_path / "report.html", labels=labels_of(["anything", "two"]), spans=0))
    for pick, reason in zip(data["picks"], subset.sae_explain(spans=0), strict=True):
        assert pick["parts"] and "#" not in pick["why"] and "#" in str(reason)
        assert ("a gain of" in pick["why"]) == ("a gain of" in str(reason))


def test_a_report_is_replaced_and_any_other_file_is_not(tmp_path, monkeypatch):
    subset, file = pool_of(TEXTS).sae_select(3), tmp_path / "report.html"
    subset.sae_report(file, title="the first", spans=0)
    subset.sae_report(file, title="the second", spans=0)
    assert "the second" in visible(file) and is_report(file)
    file.write_text("<!DOCTYPE html><p>my thesis</p>")
    monkeypatch.setattr("hf_sae_select.concepts.report.full_contents", lambda *args, **named: pytest.fail("slow work"))
    with pytest.raises(FileExistsError, match=r"`path='.*report.html'` is a file that is no report.*overwrite=True"):
        subset.sae_report(file)
    assert file.read_text() == "<!DOCTYPE html><p>my thesis</p>"
    monkeypatch.undo()
    subset.sae_report(file, spans=0, overwrite=True)
    assert is_report(file)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": "missing/report.html"}, OSError, "`path='missing/report.html'` must be a file in a folder"),
        ({"path": ""}, ValueError, "`path=''` is empty"),
        ({"path": 3}, TypeError, "`path=3`"),
        ({"spans": -1}, ValueError, "`spans=-1`"),
        ({"picks": 1.5}, ValueError, r"`picks=1.5`"),
        ({"title": 5}, TypeError, "`title=5`"),
        ({"labels": {}}, TypeError, "`labels={}`"),
        ({"overwrite": 1}, ValueError, "`overwrite=1`"),
        ({"pool": pool_of(TEXTS)}, ValueError, "`pool` is for a saved Selection"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments_are_refused_before_slow_work(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.setattr("hf_sae_select.concepts.report.full_contents", lambda *args, **named: pytest.fail("slow work"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        hf_sae_select.report(pool_of(TEXTS).sae_select(3), **{"path": "report.html"} | arguments)
    assert list(tmp_path.glob("*.html")) == []


def test_labels_of_another_sae_are_refused(tmp_path):
    from hf_sae_select.sae.labels import Labels

    with pytest.raises(ValueError, match="d_sae=99"):
        pool_of(TEXTS).sae_select(3).sae_report(tmp_path / "report.html", labels=Labels([], 99))


def test_a_dataset_without_a_selection_and_a_pool_of_other_rows_are_refused(tmp_path):
    file, pool = tmp_path / "report.html", pool_of(TEXTS)
    selection = pool.sae_select(3).sae_selection
    with pytest.raises(TypeError, match="`subset` has no `sae_selection`"):
        hf_sae_select.report(pool, file)
    with pytest.raises(ValueError, match="`pool` has 4 rows, but the rows were selected from 12"):
        hf_sae_select.report(selection, file, pool=pool.select(range(4)))
    with pytest.raises(ValueError, match="`pool` does not have the codes"):
        hf_sae_select.report(selection, file, pool=pool.select_columns(["text"]))
    with pytest.raises(ValueError, match="`pool` does not have the codes"):
        other = coded([{0: 1.0}] * 12, record=TEXT_RECORD | {"sae_sha256": "other"})
        hf_sae_select.report(selection, file, pool=other)
    assert not file.exists()


def test_a_subset_that_was_saved_and_loaded_says_what_to_pass(tmp_path):
    pool_of(TEXTS).sae_select(3).save_to_disk(tmp_path / "subset")
    with pytest.raises(TypeError, match="or a saved Selection, with the dataset"):
        load_from_disk(tmp_path / "subset").sae_report(tmp_path / "report.html")


def test_a_policy_allows_the_scripts_of_the_page_and_nothing_else(tmp_path):
    text = pool_of(TEXTS).sae_select(3).sae_report(tmp_path / "report.html", spans=0).read_text("utf-8")
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', text)[1].replace("&#39;", "'")
    scripts = re.findall(r"(?s)<script>(.*?)</script>", text)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" for code in scripts]
    assert f"default-src 'none'; script-src {' '.join(hashes)}; style-src" in policy
    assert "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_data(text):
    json_text = embedded([text, {text: text}])
    assert not set(json_text) & set("<>&\u2028\u2029")
    assert json.loads(json_text) == [text, {text: text}]


def test_what_is_not_seen_is_shown_and_tokens_are_masked():
    assert shown("a\u202eb\x00c\ud800d") == "a\ufffdb\ufffdc\ufffdd"
    assert "hf_" not in shown("token hf_" + "a" * 34)
    assert excerpt("many words " * 100).endswith("…") and "\n" not in excerpt("a\nb")


def test_long_texts_are_cut_to_the_size_and_the_cut_is_counted(monkeypatch):
    monkeypatch.setattr(payload, "MOST_BYTES", 3000)
    texts = ["short", "é<" * 2000, "x" * 5000]
    data = fitted({"picks": [{"text": text, "spans": [[0, len(text), 1]]} for text in texts]})
    assert len(embedded(data).encode()) <= 3000 + 3 * len(',"cut":10000')
    assert data["picks"][0] == {"text": "short", "spans": [[0, 5, 1]]}
    for pick, text in zip(data["picks"][1:], texts[1:], strict=True):
        assert pick["text"] == text[: len(pick["text"])] and len(pick["text"]) + pick["cut"] == len(text)
        assert pick["spans"] == [[0, len(pick["text"]), 1]]


def decoded(data):
    """Read the picks of each feature as the page's script does."""
    values, value, shift = [], 0, 0
    for byte in base64.b64decode(data):
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            values.append(value)
            value = shift = 0
    result, feature, places = {}, -1, iter(values)
    for step in places:
        feature += step + 1
        picks, pick = [], -1
        for _ in range(next(places)):
            pick += next(places) + 1
            picks.append(pick)
        result[feature] = picks
    return result


def test_the_picks_of_each_feature_come_back(monkeypatch):
    features = features_of([{0, 3}, {1}, {0}, set(), {0, 900}], d_sae=1000)
    data = holders_data(features, np.array([4, 0, 3, 2]))
    assert decoded(data["data"]) == {0: [0, 1, 3], 3: [1], 900: [0]} and data["strongest"] is None
    monkeypatch.setattr(payload, "MOST_HOLDER_BYTES", 12)
    fewer = holders_data(features, np.array([4, 0, 3, 2]))
    assert fewer["strongest"] == 1 and decoded(fewer["data"]) == {0: [0, 1, 3]}


def test_a_quota_is_counted_before_and_after(tmp_path):
    pool = pool_of(TEXTS, columns={"kind": ["a", "b", "b"] * 4})
    words = visible(pool.sae_select(4, quota="kind").sae_report(tmp_path / "report.html", spans=0))
    assert "Column “kind”" in words
    assert "a 4 33.3% 2 50.0%" in words and "b 8 66.7% 2 50.0%" in words


def test_fewer_picks_are_shown_where_fewer_are_asked_for(tmp_path):
    file = pool_of(TEXTS).sae_select(6).sae_report(tmp_path / "report.html", spans=0, picks=2)
    assert len(data_of(file)["picks"]) == 2
    assert "The first 2 of 6 picks are here." in visible(file)


def test_only_the_first_picks_say_what_they_were_chosen_over(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_sae_select.concepts.contents.RUNNERS_UP", 2)
    file = pool_of(TEXTS).sae_select(5, "greedy").sae_report(tmp_path / "report.html", spans=0)
    assert ["over" in pick for pick in data_of(file)["picks"]] == [True, True, False, False, False]
    assert "What a pick was chosen over is shown for the first 2." in visible(file)


METHODS = [
    "concave",
    "facility_location",
    "greedy",
    "herding",
    "instag",
    "kcenter",
    "longest",
    "match",
    "random",
    "simscale",
]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_report(method, tmp_path):
    pool = pool_of(TEXTS)
    states = [[float(i % 3), float(i % 5), 1.0] for i in range(len(TEXTS))]
    options = {"embedding": "vectors"} if hf_sae_select.METHODS[method].needs_vectors else {}
    subset = pool.add_column("vectors", states).sae_select(4, method, **options)
    data = data_of(subset.sae_report(tmp_path / "report.html", spans=0))
    assert len(data["picks"]) == 4 and all(pick["why"].endswith(".") for pick in data["picks"])


def test_must_include_exclude_and_no_picks(tmp_path):
    pool = pool_of(TEXTS)
    subset = pool.sae_select(3, must_include=[7], exclude=[0, 1])
    data = data_of(subset.sae_report(tmp_path / "report.html", spans=0))
    assert data["picks"][0]["row"] == 7 and "must_include" in data["picks"][0]["why"]


def test_spans_are_where_tokens_fire(sae, tmp_path):
    from datasets import Dataset

    texts = ["the cat sat on the mat", "a dog", "the big red bird flew over the moon"]
    subset = Dataset.from_dict({"text": texts}).sae_encode(sae).sae_select(3)
    data = data_of(subset.sae_report(tmp_path / "report.html", sae=sae, spans=2))
    assert ["spans" in pick for pick in data["picks"]] == [True, True, False]
    for pick in data["picks"][:2]:
        assert pick["spans"] and all(0 <= start < end <= len(pick["text"]) for start, end, _ in pick["spans"])


def test_a_model_that_cannot_read_again_is_said_and_the_report_is_written(tmp_path):
    with pytest.warns(UserWarning, match="the rows were not read again"):
        file = pool_of(TEXTS).sae_select(3).sae_report(tmp_path / "report.html")
    assert "The model did not read any pick again" in visible(file)


def test_no_part_of_the_page_has_another_definition_of_a_feature(tmp_path):
    texts = [f"text {i}" for i in range(40)]
    rows = [{0: 1.0, 1 + i % 9: 0.1, 1 + (3 * i + 1) % 15: 1.5} for i in range(40)]  # 0.1 is below the threshold
    pool = coded(rows, record=TEXT_RECORD).remove_columns("text").add_column("text", texts)
    for method in ("match", "greedy"):
        subset = pool.sae_select(8, method)
        data = data_of(subset.sae_report(tmp_path / "report.html", spans=0, labels=labels_of(["a", "b"])))
        table, holders = {feature[0]: feature for feature in data["features"]}, decoded(data["holders"]["data"])
        assert {feature: len(picks) / 8 for feature, picks in holders.items()} == pytest.approx(
            {feature: values[4] for feature, values in table.items() if values[4]}
        )
        for number, pick in enumerate(data["picks"]):
            for feature, _, rows, _ in pick["parts"]:
                assert rows == round(40 * table[feature][3]) and number in holders[feature]
        figures = re.search(r"They have (\d+) of the (\d+) features", visible(tmp_path / "report.html"))
        assert [int(number) for number in figures.groups()] == [len(holders), len(table)]


def code_of(selection):
    """Return the code that repeats a selection, run on a dataset that notes its calls, and the notes."""
    repetition, calls = Repetition(selection), []

    class Rows:
        def sae_encode(self, *arguments, **named):
            calls.append((arguments, named))
            return self

        sae_select = sae_encode

    names = dict.fromkeys(["sae", "text", "earlier", "must_include", "exclude", "method", "own"])
    exec(repetition.code, {"dataset": Rows(), **names})
    return calls, repetition


def test_the_code_that_repeats_a_selection_runs(tmp_path):
    record = TEXT_RECORD | {"max_length": 64, "sae": {"package": "hf-sae-select"}}
    pool = coded([{i % 5: 1.0} for i in range(90)], record=record)
    selection = pool.sae_select(70, must_include=list(range(60)), exclude=[89], quota=None).sae_selection
    (encode, select), repetition = code_of(selection)
    assert encode == ((), {"text": "text", "max_length": 64})
    assert select[0] == (70, "herding") and select[1]["exclude"] == [89] and select[1]["top"] == 256
    assert repetition.notes == ["“must_include” is too long to be shown: 60 values, which the saved selection has."]


def own(features, budget, rng):
    return hf_sae_select.Selection(np.arange(budget), np.zeros(budget), np.zeros(1, np.int64))


@pytest.mark.parametrize(("method", "note"), [(lambda *a: own(*a), "method"), (own, "own")])
def test_what_is_no_code_is_said_beside_it(method, note):
    record = TEXT_RECORD | {"text": {"function": "<lambda>", "chat": False}}
    _, repetition = code_of(coded([{0: 1.0}] * 4, record=record).sae_select(2, method).sae_selection)
    assert repetition.notes[0].startswith("“sae” is the autoencoder that encoded the rows: its place is not recorded")
    assert repetition.notes[1] == "“text” is the author's function “<lambda>”, which wrote the rows' texts."
    assert repetition.notes[2].startswith(f"“{note}” is the author's own function")


def test_a_page_stays_small_whatever_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr(payload, "MOST_BYTES", 9_000)
    pool = pool_of(["\u6f22" * 900] * 12)
    file = pool.sae_select(10).sae_report(
        tmp_path / "report.html", spans=0, labels=labels_of([(("\u5b57" * 99 + " ") * 2).strip()] * 16)
    )
    assert len(json.dumps(data_of(file)["picks"], ensure_ascii=False).encode()) < 9_000
    assert "Names of features and texts of neighbours are cut to" in visible(file)


def test_a_blank_pick_is_called_blank(tmp_path):
    pool = coded([{0: 1.0}, {}], record=TEXT_RECORD).remove_columns("text").add_column("text", ["words", " "])
    subset = pool.sae_select(2)
    picks = data_of(subset.sae_report(tmp_path / "report.html", spans=0))["picks"]
    assert ["blank" in pick for pick in picks] == [False, True]


def test_the_short_report_lists_the_picks_and_speaks_of_nothing_else(tmp_path):
    selection = pool_of(TEXTS).sae_select(5).sae_selection
    words = visible(hf_sae_select.report(selection, tmp_path / "report.html", picks=2))
    assert (
        "The first 2 of 5 picks are here." in words and f"0 {selection.indices[0]} {selection.gains[0]:.6g}" in words
    )
    assert "need JavaScript" not in words and "Texts of the rows" not in words


@pytest.mark.parametrize("method", ["random", "longest"])
def test_a_baseline_is_not_compared_with_itself(method, tmp_path):
    words = visible(pool_of(TEXTS).sae_select(4, method).sae_report(tmp_path / "report.html", spans=0))
    name = {"random": "random rows", "longest": "the longest rows"}[method]
    assert f"In tables and charts, “{name}” are the picks themselves." in words
    lead = words[: words.index("Summary")]
    assert (
        f"4 {method} rows have" not in lead
        and "4 {} rows have".format({"random": "longest"}.get(method, "random")) in lead
    )


@pytest.mark.parametrize(
    ("method", "is_divided"), [("herding", False), ("match", False), ("random", False), ("greedy", True)]
)
def test_a_page_says_that_scores_are_divided_by_costs_where_they_are(method, is_divided, tmp_path):
    pool = pool_of(TEXTS, columns={"c": [2.0] * 12})
    subset = pool.sae_select("8 c", method)
    assert ("divided by its cost" in visible(subset.sae_report(tmp_path / "report.html", spans=0))) == is_divided


def test_what_a_page_says_is_explained_once_and_without_backticks(tmp_path):
    pool = pool_of(TEXTS, columns={"q": [1.0 + i / 10 for i in range(12)], "c": [2.0] * 12})
    subset = pool.sae_select("9 c", "match", quality="q", must_include=[3], per_cost=True)
    words = visible(subset.sae_report(tmp_path / "report.html", spans=0))
    assert "4 random rows have" in words and "the 4 longest rows have" in words
    assert "The score of a row is its gain, times its quality, column “q”, and divided by its cost, “c”" in words
    assert "`" not in words and words.count("A feature is a direction") == 1
    assert words.count("Likeness is 1") == 1
    assert data_of(tmp_path / "report.html")["picks"][0]["why"].startswith(
        "Picked before the method began, as a row of “must_include”"
    )
    assert "nearer to it, by their features" in words


def test_a_method_that_compares_vectors_groups_by_vectors(tmp_path):
    pool = pool_of(TEXTS).add_column("v", np.eye(12).tolist())
    words = visible(pool.sae_select(4, "kcenter", embedding="v").sae_report(tmp_path / "report.html", spans=0))
    assert "nearer to it, by their vectors" in words or "Rows that picks stand for" not in words
