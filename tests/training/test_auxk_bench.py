"""The bench of AuxK: its table is whole, and both ways compute the same gradients."""

import sys
from unittest import mock

import torch

from hf_sae_select.training import objectives
from hf_sae_select.training.objectives import compute_gradients


def test_the_bench_prints_its_table(script, monkeypatch, capsys):
    bench = script("auxk")
    monkeypatch.setattr(bench, "D_SAE", 512)
    monkeypatch.setattr(sys, "argv", ["auxk.py", "--d-in", "16", "--tokens", "64"])
    bench.main()
    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head == "64 tokens, d_sae 512, k 32, 1 threads"
    assert columns.split() == ["d_in", "AuxK", "latents", "dead", "multiple", "sums", "products", "library"]
    cells = [line.split() for line in lines]
    assert [row[:4] for row in cells] == [
        ["16", "8", dead, multiple]
        for dead, multiple in (("4", "0.5"), ("8", "1"), ("16", "2"), ("32", "4"), ("64", "8"), ("128", "16"))
    ]
    assert [row[-1] for row in cells] == ["products"] * 4 + ["sums"] * 2


def test_both_ways_compute_the_same_gradients(script, monkeypatch):
    bench = script("auxk")
    monkeypatch.setattr(bench, "D_SAE", 512)
    step, gradients = bench.Step(16, 64), []
    for limit in (bench.BY_SUMS, bench.BY_PRODUCTS):
        with mock.patch.object(objectives, "DENSE_AUXK", limit):
            result = compute_gradients(step.weights, step.objective, step.x, step.pre, step.order[:100], warmup=1.0)
            gradients.append(result.gradients)
    for by_sums, by_products in zip(*gradients, strict=True):
        torch.testing.assert_close(by_products, by_sums, atol=1e-5, rtol=1e-4)
