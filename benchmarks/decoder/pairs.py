"""Pairs of a prompt and a response from public data, pools drawn from them, and the rows that are held out.

    from pairs import Sizes, draw, pairs  # in the scripts beside this one

A row is what the decoder reads of a pair: the prompt in the model's chat format, and the response, cut after
`context` tokens. A pair with a longer prompt than `prompt` tokens is left out, since a cut prompt asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
END = "<|im_end|>"
"""The chat format of SmolLM2 without its standing system message, 20 tokens that are the same in each row."""

POOLS: dict[str, tuple[str, ...]] = {
    "mixture": ("alpaca", "dolly", "t0", "gsm8k", "code", "truthfulqa"),
    "alpaca": ("alpaca",),
}
"""Sources of each pool. Of all others, and of these, rows are held out: seeds of Self-Instruct, AlpacaEval and
UltraChat are in no pool."""
TEMPLATE = "gigaword_write_an_article"
"""The template of T0 that is a target. It is a source of its own where rows are held out."""
TARGETS = ("gsm8k", "code", TEMPLATE)

Rows = NDArray[np.int64]


class Sizes(NamedTuple):
    """Hold how much of everything: for a minute, for two cores, or for a GPU."""

    context: int  # tokens of a row
    prompt: int  # tokens of its prompt, at most
    source: int  # pairs of a source that are read, at most
    pool: int  # rows of a pool
    held_out: int  # rows of each source, half of them to choose the learning rate by
    reference: int  # rows of a target
    budgets: tuple[int, ...]  # rows
    training: int  # tokens of training for each row of the budget, whatever the rows
    batch: int  # tokens of a step, about
    layers: int  # the last ones, which are tuned


SIZES = {
    "tiny": Sizes(96, 64, 240, 60, 4, 4, (8,), 40, 80, 2),
    "small": Sizes(160, 96, 3000, 1500, 16, 24, (64,), 100, 320, 6),
    "full": Sizes(1024, 512, 10**6, 30_000, 200, 24, (1000, 3000), 750, 8192, 30),
}


class Pairs(NamedTuple):
    """Hold all rows of all sources."""

    sources: NDArray[np.str_]
    kinds: NDArray[np.str_]  # the template of T0, and else the source
    texts: NDArray[np.str_]  # what the SAE reads: prompt and response, as far as the decoder reads them
    ids: list[NDArray[np.int32]]
    prompts: NDArray[np.int64]  # how many of a row's tokens are its prompt's

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The tokens of each row."""
        return np.array([len(ids) for ids in self.ids])

    def dataset(self, rows: Rows) -> Dataset:
        """Return rows as a dataset with a column `text`."""
        return Dataset.from_dict({"text": self.texts[rows].tolist()})


class Draw(NamedTuple):
    """Hold one pool, and rows that are not in it."""

    pool: str
    number: int
    rows: Rows
    held_out: dict[str, Rows]
    references: dict[str, Rows]

    @property
    def name(self) -> str:
        """The name of the pool and its number."""
        return f"{self.pool}-{self.number}"


def pairs(data: Path, tokenizer: Any, sizes: Sizes) -> Pairs:
    """Read all sources, and cut their rows as the decoder reads them."""
    table = pd.concat(list(tables(data)), ignore_index=True)
    table = table[(table["prompt"].str.strip() != "") & (table["response"].str.strip() != "")]
    table = table.drop_duplicates(["prompt", "response"]).sample(frac=1, random_state=0)
    target = table["kind"] == TEMPLATE  # kept whole: a twentieth of its rows would be too few to pick and to hold out
    table = pd.concat([table[target], table[~target].groupby("source").head(sizes.source)], ignore_index=True)
    prompts = tokenizer([CHAT.format(prompt) for prompt in table["prompt"]], add_special_tokens=False)["input_ids"]
    responses = tokenizer((table["response"] + END).tolist(), add_special_tokens=False)["input_ids"]
    lengths = np.array([len(ids) for ids in prompts])
    short = np.flatnonzero(lengths <= sizes.prompt)
    ids = [np.array([*prompts[row], *responses[row]][: sizes.context], np.int32) for row in short]
    read = tokenizer.batch_decode([row[length:] for row, length in zip(ids, lengths[short], strict=True)], True)
    texts = [f"{prompt}\n{response}" for prompt, response in zip(table["prompt"].iloc[short], read, strict=True)]
    sources, kinds = (table[name].to_numpy().astype(str)[short] for name in ("source", "kind"))
    return Pairs(sources, kinds, np.array(texts), ids, lengths[short])


def draw(known: Pairs, pool: str, number: int, sizes: Sizes) -> Draw:
    """Draw a pool, in which sources are as rare as 1 / rank in an order of the draw, and what is held out of it."""
    rng = np.random.default_rng([number, len(pool)])
    order = rng.permutation(POOLS[pool])
    shares = 1 / np.arange(1, len(order) + 1)
    rows, held_out, references = list[Rows](), dict[str, Rows](), dict[str, Rows]()
    for source, share in zip(order, shares / shares.sum(), strict=True):
        of_source = rng.permutation(np.flatnonzero(known.sources == source))
        rows.append(of_source[: min(round(share * sizes.pool), 2 * len(of_source) // 3)])
    drawn = rng.permutation(np.concatenate(rows))
    free = rng.permutation(np.setdiff1d(np.arange(len(known.ids)), drawn))
    for source in sorted({*known.sources.tolist(), *TARGETS}):
        named = known.kinds if source == TEMPLATE else known.sources
        of_source = free[named[free] == source]
        held_out[source], others = np.split(of_source, [sizes.held_out])
        if source in TARGETS:
            references[source] = others[: sizes.reference]
    return Draw(pool, number, drawn, held_out, references)


def tables(data: Path) -> Iterator[pd.DataFrame]:
    """Yield the prompts and responses of each source."""

    def read(file: str) -> pd.DataFrame:
        return pd.read_parquet(data / f"{file}.parquet")

    alpaca, dolly, t0 = read("alpaca_52k"), read("dolly_15k"), read("t0_train_50k")
    yield frame("alpaca", both(alpaca["instruction"], alpaca["input"]), alpaca["output"])
    yield frame("dolly", both(dolly["context"], dolly["instruction"]), dolly["response"])
    yield frame("t0", t0["prompt"], t0["completion"]).assign(kind=t0["template"])
    sums, code, truth = read("gsm8k_train"), read("evol_codealpaca_4k"), read("truthfulqa")
    yield frame("gsm8k", sums["question"], sums["answer"])
    yield frame("code", code["instruction"], code["output"])
    yield frame("truthfulqa", truth["Question"], truth["Best Answer"])
    seeds, asked, chats = read("selfinstruct_seed_175"), read("alpaca_eval_805"), read("ultrachat_200")
    first = seeds["instances"].str[0]
    yield frame("seeds", both(seeds["instruction"], first.str["input"]), first.str["output"])
    yield frame("alpaca_eval", asked["instruction"], asked["output"])
    turns = [chats["messages"].str[turn].str["content"] for turn in range(2)]
    yield frame("ultrachat", *turns)


def both(above: pd.Series, below: pd.Series) -> pd.Series:
    """Join two parts of a prompt, of which one may be empty."""
    return (above.fillna("").str.strip() + "\n" + below.fillna("").str.strip()).str.strip()


def frame(source: str, prompt: pd.Series, response: pd.Series) -> pd.DataFrame:
    """Return prompts and responses of one source."""
    return pd.DataFrame({"source": source, "kind": source, "prompt": prompt, "response": response})
