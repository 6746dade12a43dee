"""The bench for GPUs, on a CPU and small shapes: every part runs, and what cannot be measured is said."""

import json
import sys

import pytest
import torch


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--out", str(tmp_path)])
    script("gpu").main()
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [line["of"] for line in lines if line["part"] == "time"] == "env micro encode equal train select".split()
    assert not [line for line in lines if "missing" in line or "error" in line]
    assert {line["twice"] for line in lines if line["table"] == "bits"} == {True}
    exact = [line for line in lines if line["table"] == "against float64" and line["product"] != "bfloat16"]
    assert [line["flips a row"] for line in exact] == [0] * 6  # of 12 rows
    assert [line["holds"] for line in lines if line["table"].startswith("gate")] == [True, True]
    assert {line["picks as before"] for line in lines if line["table"] == "select"} == {True}
    tables = (tmp_path / "gpu.md").read_text()
    assert "| 1B | 128 | bfloat16x3 | 24 |" in tables
    assert capsys.readouterr().out.endswith(tables)


@pytest.fixture
def bench(script, tmp_path):
    shapes, lines = script("gpu_bench.shapes"), script("gpu_bench.lines")
    return script("gpu_bench.bench").Bench(torch.device("cpu"), shapes.TINY, lines.Lines(tmp_path))


def test_what_has_no_memory_or_no_time_says_so_and_the_next_goes_on(bench):
    def too_large():
        raise torch.OutOfMemoryError

    bench.begin("micro", seconds=60)
    bench.measure("forward", too_large, tokens=4)
    bench.measure("forward", lambda: {"ms": 2.5}, tokens=2)
    bench.begin("train", seconds=-1)
    bench.measure("step", lambda: {"ms": 9.0}, batch=8)
    assert [json.loads(line) for line in bench.lines.file.read_text().splitlines()] == [
        {"part": "micro", "table": "forward", "tokens": 4, "missing": "out of memory"},
        {"part": "micro", "table": "forward", "tokens": 2, "ms": 2.5},
        {"part": "train", "table": "step", "batch": 8, "missing": "no time left"},
    ]
    assert bench.lines.markdown().splitlines()[:6] == [
        "micro: forward",
        "",
        "| tokens | missing | ms |",
        "|---|---|---|",
        "| 4 | out of memory |  |",
        "| 2 |  | 2.5 |",
    ]


def test_spans_that_overlap_count_once(script):
    assert script("gpu_bench.codes").covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4


def test_a_part_that_fails_leaves_the_others_their_figures(script, monkeypatch, tmp_path):
    gpu = script("gpu")

    def fails(bench):
        raise RuntimeError("no kernel")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(
        gpu, "PARTS", {"env": (fails, 1), "micro": (lambda bench: bench.lines.add("micro", "t", s=1), 1)}
    )
    argv = ["gpu.py", "--device", "cpu", "--tiny", "--part", "env,micro", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    gpu.main()
    lines = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert lines[0] == {"part": "env", "table": "failed", "error": "RuntimeError: no kernel"}
    assert [line["part"] for line in lines] == ["env", "time", "micro", "time"]


def test_an_unknown_part_is_refused(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", "x", "--part", "env,encoding"])
    with pytest.raises(SystemExit):
        script("gpu").main()
    assert "unknown --part encoding; choose from env, micro, encode, equal, train, select" in capsys.readouterr().err
