"""The long run of `tests/publishing/test_hub_faults.py`: each kind of fault at each request of each call.

    python tests/soak/hub_faults.py [call ...] [--kinds WORD ...]

Each case starts with a Hub of its own and an empty cache, and either one request fails or all from there on. The
script prints, for each call, how many cases were tried and how many survived, and each case that did not. It takes
about an hour. Exit code 1 if a case did not survive.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.update(TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", TRANSFORMERS_VERBOSITY="error")
sys.path.insert(0, str(Path(__file__).parents[1]))

import datasets
import pytest
from helpers import faults, forge, tiny
from hub import connect, serve
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils import logging as hub_logging

from hf_sae_select import SaeConfig, load_sae, publish, push

ID = "alice/three"


class World:
    """A published subset whose source, model and SAE are on the Hub too, made once and copied for each case."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        with pytest.MonkeyPatch.context() as patch, serve() as hub, connect(hub, folder / "home", patch):
            patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
            bert = tiny.save("bert", folder / "bert")
            sae = tiny.sae(
                SaeConfig(16, 32, "jumprelu", model=str(bert), hook="encoder.layer.1", feature_threshold=0.5)
            )
            self.staged = forge.stage_whole(hub, sae, bert, folder)
            push(self.staged, ID, **forge.ALICE)
            self.repos, self.objects = dict(hub.repos), dict(hub.objects)
        self.digest = sae.digest()

    def fill(self, hub, change=None):
        """Put everything on a Hub; `change` alters files of the subset."""
        for (kind, id), repo in self.repos.items():
            hub.repos[kind, id] = repo
        hub.objects |= self.objects
        if change:
            hub.repos = dict(hub.repos)
            hub.push("alice/changed", hub.files(ID, "dataset") | change, kind="dataset")


def calls(world):
    """Name -> how the Hub is filled, the call, and whether what came out is true."""

    def verified(hub, code, error):
        return error is None and code in (0, 2)

    def changed(hub, code, error):
        return error is None and code in (1, 2)

    def pushed(hub, commit, error):
        made = hub.files("alice/new", "dataset") if ("dataset", "alice/new") in hub.repos else {}
        if error is None:
            return len(made) == 6 and commit.oid == hub.commits("alice/new", "dataset")[0].oid
        return faults.is_ours(error) and (not made or "cannot be told" in str(error))

    def loaded(hub, sae, error):
        return faults.is_ours(error) if error is not None else sae.digest() == world.digest

    def select_and_publish(hub):
        subset = forge.coded(forge.POOL, record=forge.RECORD).sae_select(3, "greedy", seed=None)
        return publish(subset, "alice/new", license="mit", **forge.ALICE)

    def other(hub):
        world.fill(hub, {"coverage.png": b"other"})

    return {
        "verify": (world.fill, lambda hub: faults.exit_code(ID), verified),
        "verify-select": (world.fill, lambda hub: faults.exit_code(ID, "--level", "select"), verified),
        "verify-changed": (other, lambda hub: faults.exit_code("alice/changed"), changed),
        "load": (world.fill, lambda hub: load_sae("alice/sae"), loaded),
        "push": (lambda hub: None, lambda hub: push(world.staged, "alice/new", **forge.ALICE), pushed),
        "publish": (lambda hub: None, select_and_publish, pushed),
        "verify-encode": (world.fill, lambda hub: faults.exit_code(ID, "--level", "encode"), verified),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", nargs="*", help="only these calls")
    parser.add_argument("--kinds", nargs="*", default=[""], help="only kinds of faults that have one of these words")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    disable_progress_bars()
    hub_logging.set_verbosity_error()
    kinds = [kind for kind in faults.KINDS if any(word in kind for word in options.kinds)]
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = World(folder)
        for call, (fill, function, judge) in calls(world).items():
            if options.calls and call not in options.calls:
                continue
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                n_requests = faults.requests_of(folder / "count", fill, function)
            tried, outcomes = [], Counter()
            for kind in kinds:
                for request in range(n_requests):
                    for times in (1, faults.FOREVER):
                        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                            case = faults.run(folder / "case", call, fill, function, judge, kind, request, times)
                        tried.append(case)
                        outcomes[case.outcome.split(":")[0]] += 1
                        if not case.survived:
                            print(case, flush=True)
            survived = sum(case.survived for case in tried)
            failed += len(tried) - survived
            print(
                f"{call}: {n_requests} requests, {len(tried)} tried, {survived} survived; {dict(outcomes)}", flush=True
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
