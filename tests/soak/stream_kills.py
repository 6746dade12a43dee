"""Kill a selection from a stream, damage its files, and let the disk be full: `python tests/soak/stream_kills.py`.

`--kills` (50) processes are killed at random steps; each is called again. `--damages` (50) truncate or flip a file
that is left in the cache, at a random place, before the same call. `--full` (20) limit the size of files; then the
limit is gone. A case survives if the last call gives the receipt of a selection that nobody disturbed, byte for byte,
or an error that names the file and the remedy, after which the call gives that receipt. It prints tried and survived.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import encode_kills  # sets the environment first
import torch
from datasets import Features, IterableDataset, Value
from helpers import tiny

from hf_sae_select import SaeConfig, _streams
from hf_sae_select.encoding import encoder, run, store

REMEDY = re.compile(r"the cache file (?P<file>\S+) is damaged .*delete it|cannot write \S+: .*free space")


def receipt(sae: Any) -> str:
    """Select from a stream that can be read once, and return all that is recorded, and the rows."""
    source = iter([{"text": text} for text in encode_kills.TEXTS])
    stream = IterableDataset.from_generator(lambda: source, features=Features({"text": Value("string")}))
    subset = stream.sae_select(5, sae=sae, batch_size=2)
    selection = subset.sae_selection
    arrays = [selection.indices, selection.gains, selection.round_starts, selection.covered]
    numbers = [array.tobytes().hex() for array in arrays]
    facts = [selection.parameters, selection.row_digests, selection.fingerprint, selection.pool_rows]
    return json.dumps([*numbers, *facts, subset.to_list()], sort_keys=True, default=str)


def in_child(cache: Path, sae: Any, before: Callable[[], None]) -> tuple[int, str]:
    """Select in a process of its own, after `before`; return its status, and the receipt or the error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        datasets.config.HF_DATASETS_CACHE = cache
        before()
        try:
            answer = receipt(sae)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = pipe.read()
    return os.waitpid(child, 0)[1], answer


def nothing() -> None:
    """Disturb nothing."""


def killed_at(step: int) -> Callable[[], None]:
    """Return what lets a process kill itself at a step."""

    def before() -> None:
        counter = itertools.count()

        def act() -> None:
            if next(counter) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        encode_kills.steps(act)

    return before


def full_after(size: int) -> Callable[[], None]:
    """Return what lets no file of a process be larger than so many bytes."""

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    return before


def count_steps(cache: Path, sae: Any) -> int:
    """Return the number of steps of a selection that nobody disturbs."""
    count, file = itertools.count(), cache.with_suffix(".steps")

    def act() -> None:
        file.write_text(str(next(count)))

    in_child(cache, sae, lambda: encode_kills.steps(act))
    return int(file.read_text())


def damage(cache: Path, draw: random.Random) -> str:
    """Truncate a file of the cache, or flip a bit of it, and say what was done."""
    file = draw.choice(sorted(path for path in cache.rglob("*.arrow")))
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    if draw.random() < 0.3:
        file.write_bytes(content[:place])
        return f"{file.name} of {len(content)} bytes cut at {place}"
    content[place] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return f"{file.name} of {len(content)} bytes flipped at {place}"


def survives(cache: Path, sae: Any, expected: str, disturbed: str = "") -> str | None:
    """Call again until the receipt is there; return what else comes instead, None if nothing does."""
    answer = disturbed
    for _ in range(3):
        if not answer:
            answer = in_child(cache, sae, nothing)[1]
        if answer == expected:
            return None
        match = REMEDY.search(answer)
        if match is None:
            return answer[:300]
        if match["file"]:  # the remedy
            Path(match["file"]).unlink()
        answer = ""
    return "no receipt after the remedy"


def main() -> int:
    """Print how many cases were tried, and how many survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("kills", 50), ("damages", 50), ("full", 20), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=number)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    encoder.GROUP_ROWS, run.READ_ROWS, run.FILE_BYTES = 4, 2, 1
    store.MOST_RUNS, store.FILE_ROWS, store.BLOCK_ROWS = 1, 5, 3
    _streams.BATCH_ROWS, _streams.FILE_BYTES = 3, 200
    lost = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bert = tiny.save("bert", folder / "bert")
        sae = tiny.sae(SaeConfig(16, 32, "jumprelu", model=str(bert), hook="encoder.layer.1", feature_threshold=0.5))
        _, expected = in_child(folder / "whole", sae, nothing)
        steps = count_steps(folder / "counted", sae)
        problems: list[str] = []
        for number in range(arguments.kills):
            step, cache = draw.randrange(steps), folder / f"kill{number}"
            status, answer = in_child(cache, sae, killed_at(step))
            problem = survives(cache, sae, expected)
            parts = [file.name for file in cache.rglob("*") if file.name.endswith(".part")]
            if status != signal.SIGKILL or problem or parts:
                problems.append(f"step {step} of {steps}: status {status}, {problem}, {parts}, {answer[:100]}")
        lost += summed_up("killed", arguments.kills, problems)
        problems = []
        for number in range(arguments.damages):
            cache = shutil.copytree(folder / "whole", folder / f"damage{number}")
            done = damage(cache, draw)
            if problem := survives(cache, sae, expected):
                problems.append(f"{done}: {problem}")
        lost += summed_up("damaged", arguments.damages, problems)
        problems = []
        for number in range(arguments.full):
            cache, size = folder / f"full{number}", draw.randrange(1, 3000)
            _, answer = in_child(cache, sae, full_after(size))
            if problem := survives(cache, sae, expected, answer):
                problems.append(f"{size} bytes: {problem}")
        lost += summed_up("on a full disk", arguments.full, problems)
    return int(lost > 0)


def summed_up(kind: str, tried: int, problems: list[str]) -> int:
    """Print what did not survive, and how many cases were tried and survived."""
    print("\n".join([*problems, f"{kind}: {tried} tried, {tried - len(problems)} survived"]), flush=True)
    return len(problems)


if __name__ == "__main__":
    sys.exit(main())
