"""What a person sees while rows are selected: bars that `datasets` switches off."""

import re

import datasets
import numpy as np
import pytest
from helpers.pools import coded, features_of

from hf_sae_select import select
from hf_sae_select.selection import coverage, progress, run
from hf_sae_select.selection.constraints import Constraints
from hf_sae_select.selection.request import SelectionRequest
from hf_sae_select.selection.sharded import driver, pool

ROWS = [{0, 1}, {1, 2, 3}, {3}, {4, 5}, {0, 5}, {2, 4}]
NOTHING = np.empty(0, np.int64)


@pytest.fixture
def shown(capsys):
    """Show bars, and return what is seen of them."""
    datasets.enable_progress_bars()
    yield lambda: capsys.readouterr().err
    datasets.disable_progress_bars()


@pytest.mark.parametrize("method", ["greedy", "concave", "simscale", "instag", "herding"])
@pytest.mark.parametrize("shards", [None, 2])
def test_a_bar_counts_the_picks(method, shards, shown):
    features = features_of(ROWS)
    features = features if shards is None else pool.of_matrix(features, shards)
    run.run(SelectionRequest.parse(6, {}, 4, method, {}), features)
    seen = shown()
    assert re.search(r"Selecting: +0%.*\| 0/4 \[", seen) and re.search(r"Selecting: 100%.*\| 4/4 \[", seen)


def test_a_bar_stays_below_its_end_where_no_more_rows_are_picked(shown):
    with pytest.warns(UserWarning, match="no row left to pick after 1 of 6"):
        run.run(SelectionRequest.parse(6, {}, 6, "greedy", {"exhausted": "stop"}), features_of([{0}] * 6))
    assert re.search(r"Selecting: +17%.*\| 1/6 \[", shown())


def test_of_several_processes_the_first_shows_the_bar(shown, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    run.run(SelectionRequest.parse(6, {}, 4, "greedy", {}), features_of(ROWS))
    assert shown() == ""


def told(select):
    """Return the numbers of picks that a search tells."""
    numbers = []
    select(numbers.append)
    assert numbers == sorted(numbers)
    return sorted(set(numbers))


def new_search(features):
    csr = coverage.Csr(features.offsets[:-1], features.offsets[1:], features.ids, np.empty(0, np.float32))
    objective = coverage.count_objective(np.ones(features.d_sae), [1, 0])
    state = Constraints.none(len(features)).state(np.arange(len(features)))
    return coverage.new_search(csr, objective, features.frequency.copy(), state, 6)


def test_a_search_tells_how_many_rows_it_has_picked(monkeypatch):
    features = features_of(ROWS)
    rest = NOTHING, NOTHING, True, NOTHING
    assert told(lambda progress: coverage.greedy_cover(new_search(features), *rest, progress))[-1] == 6
    order = np.arange(6)
    assert told(lambda progress: coverage.scan(new_search(features), *rest, order, 0.0, False, progress)) == [3, 5, 6]
    monkeypatch.setattr(driver, "OFFERED", 1)
    measure = coverage.Measure(lambda: coverage.count_objective(np.ones(features.d_sae), [1, 0]))
    search = driver.Driver(
        pool.of_matrix(features, 2), measure, features.frequency, Constraints.none(6), order, order, 6
    )
    assert told(lambda progress: search(*rest, progress)) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("method", "what"), [("greedy", "codes"), ("kcenter", "vectors")])
def test_of_many_rows_one_bar_counts_those_that_were_read(method, what, shown, monkeypatch):
    monkeypatch.setattr(run, "MANY_ROWS", 1)
    monkeypatch.setattr(progress, "LONG_ROWS", 1)
    monkeypatch.setattr(pool, "cores", lambda: 2)
    encoded = coded([dict.fromkeys(row, 1.0) for row in ROWS])
    options = {} if method == "greedy" else {"embedding": "vector"}
    encoded = encoded.add_column("vector", [[float(i), 1.0] for i in range(6)])
    assert len(select(encoded, 2, method, **options)) == 2
    bars = re.findall(rf"Reading {what}: .*?\| (\d/\d) \[", shown())
    assert set(bars) == {"0/3"}  # the first shard has half of the rows
    monkeypatch.setattr(progress, "LONG_ROWS", 100)
    select(encoded, 2, method, **options)
    assert "Reading" not in shown()
