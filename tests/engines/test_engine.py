"""The argument `engine`: what is wrong with it is said before any work."""

import pickle
import socket
import sys
import time
from contextlib import nullcontext

import pytest
from datasets import Dataset
from helpers.pools import coded

from hf_sae_select import Ray, encode, select
from hf_sae_select.cli.values import value_of
from hf_sae_select.engines import host
from hf_sae_select.engines.engine import device_of, engine_of
from hf_sae_select.selection.sharded import pool

ROWS = Dataset.from_dict({"text": ["a", "b"]})


def test_a_name_stands_for_an_engine():
    assert (engine_of(None), engine_of("ray"), engine_of("processes")) == (None, Ray(), "processes")
    assert engine_of(Ray(workers=3)) == Ray(workers=3)


def test_workers_that_hold_gpus_encode_on_them():
    assert [device_of(engine) for engine in (None, "processes", Ray(), Ray(gpus=0.5))] == [None, None, "cpu", "cuda"]


@pytest.mark.parametrize("function", [encode, lambda rows, engine: select(rows, 1, engine=engine)])
def test_an_unknown_engine_is_refused(function):
    with pytest.raises(ValueError, match=r"unknown `engine='rai'`; choose one of: processes, ray; did you mean 'ray'"):
        function(ROWS, engine="rai")
    with pytest.raises(TypeError, match=r"`engine=4` must be None, 'processes', 'ray' or a `Ray`"):
        function(ROWS, engine=4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"workers": 0}, "`workers=0` must be a positive integer"),
        ({"cpus": -1}, r"`cpus=-1` must be a finite number in \[0, inf\)"),
        ({"gpus": "1"}, "`gpus='1'` must be"),
        ({"address": " "}, "`address=' '` is empty"),
        ({"resources": {"big": None}}, r"`resources\['big'\]=None` must be"),
    ],
)
def test_bad_arguments_of_ray_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Ray(**arguments)


def test_ray_that_is_not_installed_gives_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"`engine='ray'` needs `ray`: pip install \"hf-sae-select\[ray\]\""):
        encode(ROWS, engine="ray")


def test_one_process_alone_is_no_engine(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match=r"`engine='processes'` shares .* there is one; start several, such as `to"):
        select(coded([{0: 0.9}, {1: 0.9}]), 1, engine="processes")


def test_processes_of_torchrun_do_not_start_ray_each(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"`engine=Ray\(.*\)` in 2 processes of torchrun: .* engine='processes'"):
        encode(ROWS, engine="ray")


def test_a_stream_is_encoded_without_an_engine():
    with pytest.raises(ValueError, match=r"`engine='ray'`: a stream is encoded in this process"):
        ROWS.to_iterable_dataset().sae_encode(engine="ray")


@pytest.mark.ray
def test_an_address_without_a_cluster_is_an_error_at_once(monkeypatch):
    pytest.importorskip("ray", reason='needs Ray: pip install "hf-sae-select[ray]"')
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=rf"no Ray cluster is at `address='{address}'` .*`ray start --head`"):
        encode(ROWS, engine=Ray(address=address))
    with pytest.raises(ValueError, match="`address='nowhere'` must be 'auto', or host:port"):
        encode(ROWS, engine=Ray(address="nowhere"))
    assert time.monotonic() - begin < 5


def test_shards_of_an_encoded_dataset_are_made_from_a_pickle(sae, monkeypatch):
    """Its table has parts: the text in memory, and the codes in files."""
    monkeypatch.setattr(pool.ThisProcess, "shards", lambda self, make: nullcontext(make))
    coded = encode(Dataset.from_dict({"text": ["the cat", "a dog", "the moon"]}), sae)
    with pool.of_dataset(coded, pool.ThisProcess()) as features:
        shards = [pickle.loads(pickle.dumps(make))() for make in features.shards]
    counts = [count for shard in shards for count in shard.summary()["counts"].tolist()]
    assert counts == [len(ids) for ids in coded["sae_ids"]]


def test_versions_that_differ_are_named():
    own = host.versions()
    host.check_versions(own, own)
    with pytest.raises(RuntimeError, match=r"other versions .*: torch 0\.1 in place of .*; install the same"):
        host.check_versions(own, own | {"torch": "0.1"})
    assert {"hf_sae_select", "torch", "numba"} <= own.keys() and "+" not in own["torch"]


def test_the_command_line_takes_a_name_or_json():
    assert value_of("engine", "str | Ray", "ray") == "ray"
    assert value_of("engine", "str | Ray", '{"workers": 2, "gpus": 0.5}') == Ray(workers=2, gpus=0.5)
