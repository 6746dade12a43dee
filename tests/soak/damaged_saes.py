"""Damage every published layout in every way, load it, and print how many were tried and survived.

For maintainers: `python tests/soak/damaged_saes.py [--pairs N]`. It takes minutes. A damage is survived if the SAE
loads and encodes to finite numbers, or if the error is a ValueError or OSError that names the file or the key.
`tests/sae/test_damage.py` is the short version.
"""

import argparse
import random
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers.damage import damaged_configs, damaged_file, damaged_weights, outcome
from helpers.published import REPOS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000, help="random pairs of two damages at once")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    failures: list[str] = []

    def attempt(repo, files, key, name):
        counts["tried"] += 1
        with tempfile.TemporaryDirectory() as folder:
            try:
                end, _ = outcome(Path(folder), repo, files, key)
                counts[end] += 1
            except Exception:
                failures.append(f"{name}: {traceback.format_exc(limit=-1)}")

    everything = []
    for name, repo in REPOS.items():
        path = next(path for path in repo.files if not path.endswith((".json", ".yaml")))
        damages = [(f"{name} {kind} {key}", key, files) for kind, key, files in damaged_weights(repo)]
        damages += [(f"{name} {key}={str(v)[:20]}", key, files) for key, v, files in damaged_configs(repo)]
        damages += [(f"{name} {kind}", path, {path: c}) for kind, c in damaged_file(repo.files[path])]
        for label, key, files in damages:
            attempt(repo, files, key, label)
        everything.append((repo, damages))
    chance = random.Random(0)
    for _ in range(arguments.pairs):
        repo, damages = chance.choice(everything)
        (one, key, first), (two, _, second) = chance.sample(damages, 2)
        attempt(repo, first | second, key, f"{one} and {two}")
    print(
        f"tried {counts['tried']:,}: {counts['loaded']:,} loaded, {counts['refused']:,} refused by name, "
        f"{len(failures):,} failed"
    )
    print("\n".join(failures))
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
