"""Kills `stage` at each operation on files, and stages again: is the folder the old one or the new one, whole?

    python tests/soak/killed_staging.py

The script prints how many kills were tried and survived. It takes about ten minutes. Exit code 1 if one did not
survive.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).parents[1]))

OPERATIONS = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "open")


def stage_in_a_process(folder, budget, last):
    """Stage in a process of its own, which kills itself before the operation of that number; return its output."""
    command = [sys.executable, "-W", "ignore", __file__, str(folder), str(budget), str(last)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def stage_here(folder, budget, last):
    import datasets
    from helpers import forge

    datasets.disable_progress_bars()
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event in OPERATIONS and folder.name in str(arguments[0]):
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    forge.choose_and_stage(folder, budget)
    print(count)


def is_whole(folder, budgets):
    from hf_sae_select import load_selection, verify

    return bool(verify(folder, "select")) and len(load_selection(folder)) in budgets


def main():
    tried = survived = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "folder-that-is-staged"
        first = stage_in_a_process(folder, 2, 0)
        operations = int(stage_in_a_process(folder, 2, 0).stdout or first.stderr)
        for last in range(1, operations + 1):
            killed = stage_in_a_process(folder, 3, last)
            was_whole = not folder.exists() or is_whole(folder, (2, 3))
            again = stage_in_a_process(folder, 2, 0)
            beside = [path.name for path in folder.parent.iterdir() if path != folder]
            tried += 1
            if (
                killed.returncode == -9
                and was_whole
                and again.returncode == 0
                and is_whole(folder, (2,))
                and not beside
            ):
                survived += 1
            else:
                print(last, killed.returncode, was_whole, again.returncode, beside, again.stderr[-500:], flush=True)
    print(f"stage: {tried} kills tried, {survived} survived")
    return 0 if tried == survived else 1


if __name__ == "__main__":
    if len(sys.argv) == 4:
        stage_here(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
