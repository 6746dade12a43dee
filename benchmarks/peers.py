"""Select rows of a synthetic pool by greedy coverage: ours beside apricot and submodlib, and all beside naive greedy.

    python benchmarks/peers.py [--rows 52002] [--budget 3000] [--as-shipped]

Makes an environment for the peers, hands every contender the same pool as CSR arrays in a process of its own and
prints one table. `seconds` is the selection with whatever the contender builds for it from the arrays, the median of
three runs, or one run where that takes a minute. `above` is the peak of memory less what the process held before,
arrays included. `full at` is the pick that covers the last feature, `repeats` counts rows picked again, `differs at`
is the first pick that is not naive greedy's, `worse at` the first one that adds fewer features than another row would
have. Naive greedy counts the gain of every row anew at each pick and takes the lowest of equal rows; a peer may take
another of them and be no worse for it. Once everything is covered nothing is compared: from there on ours begins new
rounds, and the peers add any rows. Linux only.

apricot copies all rows picked so far at each pick and never reads them. `--as-shipped` measures that too, a quarter
of an hour each; without it the copy is switched off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from peers_worker import CONTENDERS, D_SAE
from synthetic import pool

from hf_sae_select import FeatureMatrix

# apricot imports scikit-learn without asking for it
PEERS = ("apricot-select==0.6.1", "submodlib-py==0.0.3", "scikit-learn", "scipy")
RUNS, SLOW = 3, 60  # at most RUNS runs, no more of those that take SLOW seconds
Run = dict[str, Any]  # what a worker measured, or its "error"


def main() -> None:
    args = arguments()
    features = pool(args.rows, D_SAE)
    different = len(np.unique(features.ids))
    print(f"{args.rows:,} rows, {len(features.ids):,} features, {different:,} different; budget {args.budget:,}")
    gains(features.offsets[:2], features.ids, np.ones(D_SAE, np.bool_))  # compiles it
    started = time.perf_counter()
    expected = naive_greedy(features, args.budget)
    print(f"naive greedy: {len(expected):,} picks with a gain, {time.perf_counter() - started:,.1f} s\n")
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "offsets.npy"), features.offsets)
        np.save(Path(folder, "ids.npy"), features.ids)
        peers = environment(args.env or Path(folder, "env"))
        runs = measure(contenders(args), peers, Path(folder), args.budget)
    table(runs, features, expected)


def naive_greedy(features: FeatureMatrix, budget: int) -> list[int]:
    """Pick the row with the most uncovered features, the lowest of equal rows, until none adds a feature."""
    picks: list[int] = []
    uncovered = np.ones(features.d_sae, np.bool_)
    while len(picks) < budget and (gain := gains(features.offsets, features.ids, uncovered)).any():
        picks.append(int(gain.argmax()))
        uncovered[features.row(picks[-1])] = False
    return picks


def first_worse(features: FeatureMatrix, picks: list[int]) -> int:
    """Return the place, from 1, of the first pick that adds fewer features than another row would; 0 without one."""
    uncovered = np.ones(features.d_sae, np.bool_)
    for n, i in enumerate(picks, 1):
        gain = gains(features.offsets, features.ids, uncovered)
        if gain[i] < gain.max():
            return n
        if not gain.any():
            break
        uncovered[features.row(i)] = False
    return 0


@njit(cache=True)  # type: ignore[untyped-decorator]
def gains(offsets: NDArray[np.int64], ids: NDArray[Any], uncovered: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the uncovered features of every row."""
    counts = np.zeros(len(offsets) - 1, np.int64)
    for i in range(len(counts)):
        for feature in ids[offsets[i] : offsets[i + 1]]:
            counts[i] += uncovered[feature]
    return counts


def environment(folder: Path) -> Path:
    """Return the Python of an environment with the peers, made in `folder` unless it is there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, symlinks=True, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def contenders(args: argparse.Namespace) -> list[str]:
    """List who runs: ours always, as the measure of the rest."""
    chosen = args.only or [name for name in CONTENDERS if args.as_shipped or "as shipped" not in name]
    return [name for name in CONTENDERS if is_ours(name) or name in chosen]


def is_ours(name: str) -> bool:
    return name.startswith("ours")


def measure(names: list[str], peers: Path, folder: Path, budget: int) -> dict[str, list[Run]]:
    """Run every contender up to RUNS times, in turn, so that what else the machine does disturbs them alike."""
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(RUNS):
        for name, earlier in runs.items():
            if not earlier or earlier[0].get("seconds", SLOW) < SLOW:
                earlier.append(run(name, Path(sys.executable) if is_ours(name) else peers, folder, budget))
                print(f"{name}: {seconds(earlier[-1:]):.2f} s", file=sys.stderr)
    return runs


def run(name: str, python: Path, folder: Path, budget: int) -> Run:
    """Run a contender in a process of its own; one that died without a result has its last words as error."""
    worker, result = Path(__file__).with_name("peers_worker.py"), folder / "result.json"
    result.unlink(missing_ok=True)
    # A cache of its own, so that the first run compiles everything and tells how long that takes.
    settings = os.environ | {"NUMBA_CACHE_DIR": str(folder / "numba")}
    command: list[str | Path] = [python, worker, name, folder, str(budget)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    if not result.exists():
        return {"error": " ".join([f"exit {done.returncode}", *done.stderr.splitlines()[-1:]])}
    measured: Run = json.loads(result.read_text())
    return measured


def table(runs: dict[str, list[Run]], features: FeatureMatrix, expected: list[int]) -> None:
    """Print a line for each contender, then what the first use of ours costs."""
    heads = f"{'seconds':>10}{'ratio':>9}{'peak MB':>9}{'above':>8}{'covered':>9}{'full at':>9}{'repeats':>9}"
    print(f"{'contender':<32}{heads}{'differs at':>12}{'worse at':>10}")
    for name, measured in runs.items():
        print(f"{name:<32}{figures(measured, features, expected, seconds(runs['ours']))}")
    warming = sorted(once.get("warming", float("nan")) for once in runs["ours"])
    print(f"\nfirst use of ours: {warming[-1]:.1f} s to compile, {warming[0]:.1f} s to load what was compiled before")


def figures(measured: list[Run], features: FeatureMatrix, expected: list[int], least: float) -> str:
    errors = [once["error"] for once in measured if "error" in once]
    if errors:
        return f"  failed: {errors[0]}"
    took, picks = seconds(measured), measured[0]["picks"]
    peak, above = (median(once[field] for once in measured) for field in ("peak", "above"))
    cost = f"{took:>10.2f}{took / least:>8.1f}x{peak:>9,.0f}{above:>8,.0f}"
    covered = covered_after(features, picks)
    full = first(covered >= len(np.unique(features.ids))) or "never"
    compared = picks[: len(expected)] + [-1] * (len(expected) - len(picks))
    differs = first(np.array(compared) != expected) or "none"
    worse = first_worse(features, picks) or "none"
    return f"{cost}{covered[-1]:>9,}{full:>9}{len(picks) - len(set(picks)):>9}{differs:>12}{worse:>10}"


def seconds(measured: list[Run]) -> float:
    return float(median(once.get("seconds", float("nan")) for once in measured))


def covered_after(features: FeatureMatrix, picks: list[int]) -> NDArray[np.int64]:
    """Count the features covered after each pick."""
    covered, counts = np.zeros(features.d_sae, np.bool_), []
    for i in picks:
        covered[features.row(i)] = True
        counts.append(covered.sum())
    return np.array(counts)


def first(which: NDArray[np.bool_]) -> int:
    """Return the place, from 1, of the first True; 0 without one."""
    return int(which.argmax()) + 1 if which.any() else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=52_002, help="fewer for a quick look")
    parser.add_argument("--budget", type=int, default=3000)
    parser.add_argument("--as-shipped", action="store_true", help="also apricot with the copy, 15 minutes each")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help="these beside ours")
    parser.add_argument("--env", type=Path, help="keep the peers' environment in this folder, or use the one there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
