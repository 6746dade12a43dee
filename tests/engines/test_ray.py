"""Ray: workers share tasks, and hold shards; what they give is what one process gives."""

import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import RECORD

from hf_sae_select import FeatureMatrix, Ray, encode, encode_files, select
from hf_sae_select.engines import host, work
from hf_sae_select.engines.cluster import Cluster
from hf_sae_select.features.columns import ACTS, IDS, STATE, TOKENS, column_types
from hf_sae_select.selection import run
from hf_sae_select.selection.request import SelectionRequest
from hf_sae_select.selection.sharded import pool
from hf_sae_select.selection.sharded.vector_column import VectorColumn

pytestmark = pytest.mark.ray
TWO = Ray(workers=2)
TEXTS = [" ".join("the cat sat on a big red moon".split()[: 1 + i % 8]) + " dog" * (i % 5) for i in range(60)]


@pytest.fixture(scope="module", autouse=True)
def functions_of_this_file(ray):
    """Send them to workers as they are, since workers cannot import this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def files(folder):
    return {file.relative_to(folder): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


# ---- tasks


def maker(folder, act):
    """Return a function that makes a worker; `act(task, folder)` runs before each task."""

    def make():
        class Doubler:
            def double(self, task):
                act(task, folder)
                return 2 * task

        return Doubler()

    return make


def first_time(folder, task):
    """Tell whether a task is tried for the first time."""
    try:
        (folder / str(task)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def kill_once(task, folder):
    if task in (1, 4) and first_time(folder, task):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_replaced_and_its_tasks_are_done_again(cluster, tmp_path):
    results = dict(cluster.results(maker(tmp_path, kill_once), "double", 6, lambda task: (task,)))
    assert results == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8, 5: 10}
    assert {file.name for file in tmp_path.iterdir()} == {"1", "4"}


def be_slow_once(task, folder):
    if task == 0 and first_time(folder, task):
        time.sleep(60)


def test_a_worker_that_is_slow_does_not_hold_up_the_others(cluster, tmp_path):
    begin = time.monotonic()
    results = dict(cluster.results(maker(tmp_path, be_slow_once), "double", 6, lambda task: (task,)))
    assert results[0] == 0 and len(results) == 6 and time.monotonic() - begin < 50


def fail(task, folder):
    if task == 2:
        raise ValueError("row 2 holds no text")


def test_what_a_worker_raises_is_raised_here(cluster, tmp_path):
    with pytest.raises(ValueError, match=r"^row 2 holds no text$"):
        dict(cluster.results(maker(tmp_path, fail), "double", 4, lambda task: (task,)))


def kill_always(task, folder):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_workers_that_end_again_and_again_are_an_error(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "MOST_LOSSES", 2)
    with pytest.raises(RuntimeError, match="2 workers have ended one after another, at the same rows"):
        dict(cluster.results(maker(tmp_path, kill_always), "double", 1, lambda task: (task,)))


# ---- the cluster


def test_a_cluster_that_is_too_small_is_an_error(ray, monkeypatch):
    with pytest.raises(ValueError, match=r"`engine=Ray\(workers=99.*\)`: 99 .* 49\.5 CPU, .* has 16; pass fewer"):
        encode_with(Ray(workers=99))
    with pytest.raises(ValueError, match=r"16 workers would hold all 16 CPUs of the cluster"):
        encode_with(Ray(workers=16, cpus=1))
    with monkeypatch.context() as patches:  # a cluster of this machine is not started for it
        patches.setattr(ray, "is_initialized", lambda: False)
        patches.setattr(ray, "init", pytest.fail)
        with pytest.raises(ValueError, match=r"9999 workers need 4999\.5 CPU, and the cluster has \d+; pass fewer"):
            encode_with(Ray(workers=9999))
    with pytest.raises(ValueError, match=r"1 workers need 2 GPU, and the cluster has 0; pass less GPU for each"):
        encode_with(Ray(gpus=2))
    with pytest.raises(ValueError, match=r"2 workers need 2 highmem, and the cluster has 0"):
        encode_with(Ray(workers=2, resources={"highmem": 1}))


def encode_with(engine):
    return Cluster(engine).workers


def test_workers_that_ray_cannot_place_are_an_error(ray, monkeypatch):
    monkeypatch.setattr("hf_sae_select.engines.cluster.PLACE_SECONDS", 0.2)
    holder = ray.remote(num_cpus=15.9)(host.Host).remote()
    ray.get(holder.answer.remote())
    with pytest.raises(RuntimeError, match=r"Ray placed 0 of 1 workers in 0\.2 s; each needs 0\.5 of 0\.1 free CPU"):
        Cluster(TWO).place(1, 1)
    ray.kill(holder)


def test_a_worker_with_other_versions_is_refused(cluster, monkeypatch):
    (worker,) = cluster.place(1, 1)
    monkeypatch.setattr(host, "versions", lambda: {"torch": "0.1"})
    with pytest.raises(RuntimeError, match=r"other versions than the process that asks.*: torch .* in place of 0.1"):
        cluster.answer(cluster.start(worker, dict))
    cluster.end([worker])


# ---- encoding


@pytest.mark.slow
def test_codes_and_files_are_those_of_one_process(ray, sae, tmp_path, monkeypatch, cache):
    rows = Dataset.from_dict({"text": TEXTS, "other": range(60)})
    one = encode(rows, sae, keep=("all", "state"))
    expected = files(cache)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "ray")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        coded = rows.sae_encode(sae, keep=("all", "state"), engine=TWO)
    assert coded[:] == one[:] and coded.features == one.features and coded._fingerprint == one._fingerprint
    assert files(tmp_path / "ray") == expected
    monkeypatch.setattr(Cluster, "place", lambda *_, **__: pytest.fail("workers were placed"))
    assert encode(rows, sae, keep=("all", "state"), engine=TWO)[:] == one[:]  # from the cache


# ---- selection


METHODS = {
    "herding": ("herding", {}),
    "greedy": ("greedy", {}),
    "idf": ("greedy", {"idf": True}),
    "weighted": ("weighted", {}),
    "mass": ("concave", {"by": "mass", "curve": "log"}),
    "match": ("match", {}),
    "simscale": ("simscale", {"max_overlap": 0.5}),
    "nearest": ("simscale", {"against": "nearest", "max_overlap": 0.5}),
    "instag": ("instag", {}),
    "longest": ("longest", {}),
    "random": ("random", {}),
    "kcenter": ("kcenter", {}),
    "filter": ("repr_filter", {"max_similarity": 0.2}),
}
CONSTRAINTS = [{}, {"must_include": [3, 1]}, {"exclude": [0, 2]}, {"quota": "kind"}, {"cost": "price"}]
N = 40


def acts():
    rng = np.random.default_rng(0)
    dense = rng.random((N, 16), np.float32) * (rng.random((N, 16)) < 0.25)
    dense[[5, 30]] = 0
    dense[11] = dense[12]
    return dense


def pool_of_rows():
    columns = {IDS: [np.flatnonzero(row) for row in acts()], ACTS: [row[row > 0] for row in acts()]}
    states = np.random.default_rng(1).integers(-1, 2, (N, 3))
    return Dataset.from_dict({**columns, TOKENS: range(N), STATE: states}, features=column_types(RECORD, 3))


def vectors_of(rows):
    return VectorColumn(rows.select_columns([STATE]), STATE)


@pytest.fixture(scope="module")
def sharded(ray):
    """A pool in three shards."""
    with Cluster(Ray(workers=3)) as cluster:
        rows = pool_of_rows()
        with pool.of_dataset(rows, cluster, vectors_of(rows)) as features:
            yield features


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_the_receipt_is_that_of_one_process(sharded, method, constraint):
    columns = {"kind": ["abc"[i % 3] for i in range(N)], "price": [1 + i % 7 for i in range(N)]}
    one = FeatureMatrix.from_dataset(pool_of_rows(), STATE)
    name, options = METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        request = SelectionRequest.parse(N, columns, 25, name, options, **constraint)
        in_one, in_shards = (repr(vars(run.run(request, rows))) for rows in (one, sharded))
    assert in_shards == in_one


@pytest.mark.slow
@pytest.mark.parametrize("name", ["greedy", "kcenter"])
def test_a_shard_whose_worker_is_killed_goes_on_in_another_one(ray, name):
    rows = pool_of_rows()
    one = FeatureMatrix.from_dataset(rows, STATE)
    request = SelectionRequest.parse(N, {}, 25, name, {})
    with Cluster(TWO) as cluster, pool.of_dataset(rows, cluster, vectors_of(rows)) as features:
        shards, trips, call = features.shards, [], features.shards.call

        def killing(method, *arguments):
            if "offer" in [word for word in (method, *arguments[:1]) if isinstance(word, str)]:
                trips.append(method)
                if len(trips) == 2:
                    ray.kill(shards.hosts[0])
            return call(method, *arguments)

        shards.call = killing
        assert repr(vars(run.run(request, features))) == repr(vars(run.run(request, one)))
        assert len(trips) > 2 and shards.losses == 1


@pytest.mark.slow
def test_select_encodes_and_selects_with_the_picks_of_one_process(ray, sae):
    rows = Dataset.from_dict({"text": TEXTS})
    arguments = {"sae": sae, "target": ["the cat", "a big moon"] * 4}
    one = rows.sae_select(7, "match", **arguments)
    subset = select(rows, 7, "match", **arguments, engine=TWO)
    assert subset["text"][:] == one["text"][:]
    assert repr(vars(subset.sae_selection)) == repr(vars(one.sae_selection))


@pytest.mark.slow
def test_workers_write_the_files_of_one_process(ray, sae, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS})
    rows.to_parquet(tmp_path / "rows.parquet")
    for name, engine in (("one", None), ("ray", TWO)):
        encode_files(str(tmp_path / "rows.parquet"), tmp_path / name, sae, shard_rows=13, engine=engine)
    assert len(files(tmp_path / "one")) == 6 and files(tmp_path / "ray") == files(tmp_path / "one")
