"""The bench of encoding, on a few short rows: its tables are whole, and the default model is the one that it reads."""

import sys

import pytest


@pytest.mark.slow
def test_the_bench_prints_its_tables(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["encoding.py", "--tiny"])
    script("encoding").main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("16 rows, 295 tokens, 5 forward passes")
    assert [line.split("|")[1].strip() for line in lines if "x |" in line][:2] == ["64", "256"]
    policies = [line for line in lines if line.startswith(("| float32", "| bfloat16"))]
    assert len(policies) == 7
    flips = [float(line.split("|")[4]) for line in policies if "bfloat16x3" in line or "| float32 | float32" in line]
    assert flips == [0.0] * 4  # of a few short rows
    assert lines[-1].startswith("The model in bfloat16 takes ")
