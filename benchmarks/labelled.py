"""Pools of rows whose labels are known, from public data: what a selection should cover, and what it should leave out.

All rows that any pool may use are one dataset, the `universe`, so that each is encoded once; a pool is a draw from it.
Rules are chosen on the pools of half "a" and confirmed on those of half "b". No row with a label is in both, and no
task family of T0, author of novels or first word of Alpaca's instructions; the same junk is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray

PER_LABEL = 50  # rows of each template of T0, of each novel, and of each first word of Alpaca's instructions
KINDS = 60  # templates of T0, and first words, of each half
MOST = 3000  # rows of another source
COPIES, COPIED = 4, 240  # near-duplicates of a row, and how many rows have them
JUNK = 150  # rows of each kind

SHARES: dict[str, Callable[[int], NDArray[Any]]] = {
    "balanced": lambda labels: np.ones(labels),
    "long tail": lambda labels: np.arange(1, labels + 1) ** -0.6,
}
BOILERPLATE = (
    "Click here to subscribe to our newsletter.",
    "All rights reserved.",
    "This site uses cookies to improve your experience.",
    "Please enable JavaScript to view this page.",
    "Share this article on social media.",
    "Read more",
    "Terms of service and privacy policy apply.",
    "Sign in or create an account to continue.",
    "You have reached your limit of free articles this month.",
    "Page not found. Return to the home page.",
    "Copyright by the authors. Powered by open source software.",
    "Advertisement. Scroll to continue.",
)
FOREIGN = (
    "Der Zug nach Hamburg fährt heute von Gleis sieben ab und hat zwanzig Minuten Verspätung.",
    "Die Kinder spielten im Garten, bis es dunkel wurde und die Mutter sie ins Haus rief.",
    "Im Herbst ist der Wald am schönsten, wenn die Blätter rot und golden werden.",
    "Le boulanger ouvre sa boutique avant l'aube et vend son pain encore chaud.",
    "Nous avons marché le long de la rivière jusqu'au vieux moulin abandonné.",
    "La réunion est reportée à jeudi prochain, car le directeur est en voyage.",
    "El mercado abre temprano y los vendedores traen fruta fresca de las montañas.",
    "Mi abuela cocinaba una sopa de ajo que nadie ha podido repetir desde entonces.",
    "El barco salió del puerto al amanecer y no volvió hasta la noche siguiente.",
    "Il treno era pieno di studenti che tornavano a casa per le vacanze estive.",
    "La vecchia chiesa sulla collina fu costruita prima che esistesse il paese.",
    "O menino correu pela praia atrás da pipa que o vento levava para o mar.",
    "De winkel op de hoek verkoopt al dertig jaar dezelfde soort kaas en brood.",
    "Talvella järvi jäätyy ja lapset luistelevat koulun jälkeen iltaan saakka.",
    "Pociąg spóźnił się o godzinę, więc poszliśmy na herbatę do małej kawiarni.",
)


class Pool(NamedTuple):
    """Hold one draw: rows of the universe, in the order in which the pool has them."""

    name: str
    draw: int
    rows: NDArray[np.int64]
    labels: NDArray[np.str_]
    junk: NDArray[np.bool_]
    origin: NDArray[np.int64]
    """Rows of one origin are near-duplicates."""

    @property
    def budgets(self) -> dict[str, int]:
        """Name the budgets: once and twice the number of labels, and shares of the pool."""
        labels, n = len(set(self.labels[~self.junk])), len(self.rows)
        return {"1x": labels, "2x": 2 * labels, "1 %": round(0.01 * n), "5 %": round(0.05 * n)}


def universe(data: Path) -> Dataset:
    """Return all rows that a pool may use: `text`, `source`, `label` and `origin`, the row that it is a copy of."""
    others = [part.sample(min(len(part), MOST), random_state=0).sort_index() for part in instructions(data)]
    parts = [few(t0(data), KINDS, PER_LABEL), novels(data), few(verbs(data), KINDS, PER_LABEL), *others]
    rows = pd.concat(parts, ignore_index=True)
    rows["origin"] = np.arange(len(rows))
    mixed = rows[rows["source"].isin({source for sources in MIXTURES.values() for source in sources})]
    extra = pd.concat([copies(mixed), junk(mixed)], ignore_index=True)
    extra["origin"] = extra["origin"].fillna(pd.Series(np.arange(len(extra)) + len(rows))).astype(int)
    return Dataset.from_pandas(pd.concat([rows, extra], ignore_index=True), preserve_index=False)


def few(rows: pd.DataFrame, kinds: int, most: int) -> pd.DataFrame:
    """Keep, of each source, so many kinds, evenly over their names, and some rows of each."""
    kept = rows.sample(frac=1, random_state=0).groupby(["source", "label"]).head(most).sort_index()
    parts = []
    for _, part in kept.groupby("source"):
        names = np.array(sorted(set(part["label"])))
        chosen = names[np.unique(np.linspace(0, len(names) - 1, min(kinds, len(names))).astype(int))]
        parts.append(part[part["label"].isin(chosen)])
    return pd.concat(parts)


def pools(rows: Dataset, half: str, draws: int) -> Iterator[Pool]:
    """Draw every pool of a half so many times."""
    table = rows.select_columns(["source", "label", "origin"]).to_pandas()
    for draw in range(draws):
        for kind in ("t0", "novels", "verbs"):
            for shares in SHARES:
                yield labelled(table, f"{kind}-{half}", shares, draw)
        yield in_order_of_labels(labelled(table, f"t0-{half}", "balanced", draw))
        for source in NATURAL[half]:
            yield natural(table, source, draw)
        yield mixture(table, half, draw)


def labelled(table: pd.DataFrame, source: str, shares: str, draw: int) -> Pool:
    """Draw 25 rows of each label; or 50 of the first, and fewer the farther down the tail a label comes."""
    rng = np.random.default_rng([draw, len(shares)])
    groups = [group.index.to_numpy() for _, group in table[table["source"] == source].groupby("label")]
    rng.shuffle(groups)
    most = 25 if shares == "balanced" else PER_LABEL
    sizes = np.maximum(3, np.rint(most * SHARES[shares](len(groups)))).astype(int)
    picked = [rng.permutation(group)[:size] for group, size in zip(groups, sizes, strict=True)]
    return made(table, f"{source}, {shares}", draw, rng.permutation(np.concatenate(picked)))


def in_order_of_labels(pool: Pool) -> Pool:
    """Sort a pool, as datasets often come: a trap for methods that prefer the first rows."""
    order = np.argsort(pool.labels, kind="stable")
    name = pool.name.replace("balanced", "sorted")
    return Pool(name, pool.draw, pool.rows[order], pool.labels[order], pool.junk[order], pool.origin[order])


def natural(table: pd.DataFrame, source: str, draw: int) -> Pool:
    """Draw two thirds of a source as it is."""
    rng = np.random.default_rng([draw, 1])
    there = table.index[table["source"] == source].to_numpy()
    return made(table, source, draw, rng.permutation(there)[: 2 * len(there) // 3])


def mixture(table: pd.DataFrame, half: str, draw: int) -> Pool:
    """Mix sources with a long tail of shares, a tenth of near-duplicates and a twentieth of junk."""
    rng = np.random.default_rng([draw, 2])
    there = table[table["source"].isin(MIXTURES[half])]
    groups = [group.index.to_numpy() for _, group in there.groupby("label")]
    rng.shuffle(groups)
    shares = SHARES["long tail"](len(groups))
    sizes = np.maximum(3, np.rint(3000 * shares / shares.sum())).astype(int)
    rows = np.concatenate([rng.permutation(group)[:size] for group, size in zip(groups, sizes, strict=True)])
    twins = table.index[(table["source"] == "copy") & table["origin"].isin(there.index)].to_numpy()
    chosen = rng.permutation(table["origin"][twins].unique())[: len(rows) // 10 // COPIES]
    twins = twins[table["origin"][twins].isin(chosen)]
    rubbish = rng.permutation(table.index[table["source"] == "junk"].to_numpy())[: len(rows) // 20]
    return made(table, f"mixture-{half}", draw, rng.permutation(np.concatenate([rows, twins, rubbish])))


def made(table: pd.DataFrame, name: str, draw: int, rows: NDArray[np.int64]) -> Pool:
    drawn = table.loc[rows]
    labels, origin = drawn["label"].to_numpy().astype(str), drawn["origin"].to_numpy()
    return Pool(name, draw, rows, labels, (drawn["source"] == "junk").to_numpy(), origin)


# The sources


def t0(data: Path, each: int = PER_LABEL) -> pd.DataFrame:
    """Return prompts of P3's templates; every other family of tasks is of the other half."""
    table = pd.read_parquet(data / "t0_train_50k.parquet")
    table = table.sample(frac=1, random_state=0).groupby("template").head(each).sort_index()
    families = table["template"].str.partition("_")[0]
    return frame(table["prompt"] + "\n" + table["completion"], "t0" + halves(families), table["template"])


def novels(data: Path, each: int = PER_LABEL) -> pd.DataFrame:
    """Return passages of about 100 words of a hundred novels; every other author is of the other half."""
    found = []
    for book in pd.read_parquet(data / "text_novels100.parquet").itertuples():
        words = book.text.split()
        for start in random.Random(book.file).sample(range(0, len(words) - 100, 100), each):
            found.append((" ".join(words[start : start + 100]), book.file))
    table = pd.DataFrame(found, columns=["text", "file"])
    return frame(table["text"], "novels" + halves(table["file"].str.partition("_")[0]), table["file"])


def verbs(data: Path, each: int = PER_LABEL) -> pd.DataFrame:
    """Return rows of Alpaca by the first word of their instruction, mostly a verb; every other word of each half."""
    table = pd.read_parquet(data / "alpaca_52k.parquet")
    table["verb"] = first_words(table)
    table = table[table["verb"].map(table["verb"].value_counts()) >= each]
    table = table.sample(frac=1, random_state=0).groupby("verb").head(each).sort_index()
    return frame(joined(table, "instruction", "input", "output"), "verbs" + halves(table["verb"]), table["verb"])


def first_words(alpaca: pd.DataFrame) -> pd.Series:
    return alpaca["instruction"].str.strip().str.split().str[0].str.lower().str.strip(".,:!?")


def halves(families: pd.Series) -> pd.Series:
    names = sorted(set(families))
    return families.map({name: "-" + "ab"[place % 2] for place, name in enumerate(names)})


def instructions(data: Path) -> Iterator[pd.DataFrame]:
    """Yield the sources of instructions, chats, sums and code."""

    def some(file: str, rows: int = 10**6) -> pd.DataFrame:
        table = pd.read_parquet(data / f"{file}.parquet")
        return table.sample(min(rows, len(table)), random_state=0).sort_index()

    dolly = some("dolly_15k", 5000)
    yield frame(joined(dolly, "instruction", "context", "response"), "dolly", dolly["category"])
    sums = some("gsm8k_train", 800)
    yield frame(joined(sums, "question", "answer"), "gsm8k", "gsm8k")
    code = some("evol_codealpaca_4k", 800)
    yield frame(joined(code, "instruction", "output"), "code", "code")
    chats = some("ultrachat_200")
    turns = chats["messages"].map(lambda chat: "\n".join(turn["content"] for turn in chat))
    yield frame(turns, "ultrachat", "ultrachat")
    alpaca = pd.read_parquet(data / "alpaca_52k.parquet")
    rare = first_words(alpaca).map(first_words(alpaca).value_counts()) < PER_LABEL  # what `verbs` has none of
    alpaca = alpaca[rare].sample(1000, random_state=0).sort_index()
    yield frame(joined(alpaca, "instruction", "input", "output"), "alpaca", "alpaca")
    oasst = some("oasst1_en_train_texts", 1000)
    yield frame(oasst["text"], "oasst1", "oasst1")
    asked = some("alpaca_eval_805")
    yield frame(joined(asked, "instruction", "output"), "alpaca_eval", "alpaca_eval " + asked["dataset"])
    turns = some("mtbench101_1388")
    said = turns["history"].map(lambda chat: "\n".join(f"{turn['user']}\n{turn['bot']}" for turn in chat))
    yield frame(said, "mtbench101", "mtbench101 " + turns["task"])
    truth = some("truthfulqa")
    yield frame(joined(truth, "Question", "Best Answer"), "truthfulqa", truth["Category"])


NATURAL = {"a": ("dolly",), "b": ("truthfulqa", "mtbench101")}
MIXTURES = {
    "a": ("dolly", "gsm8k", "code", "ultrachat"),
    "b": ("alpaca", "oasst1", "alpaca_eval", "mtbench101"),
}


def copies(rows: pd.DataFrame) -> pd.DataFrame:
    """Return near-duplicates of some rows, which differ from them in a word."""
    chosen, draw = rows.sample(COPIED, random_state=1), random.Random(1)
    found = []
    for row in chosen.itertuples():
        words = row.text.split(" ")
        for kind in range(COPIES):
            found.append((" ".join(edited(words, draw.randrange(len(words)), kind)), "copy", row.label, row.origin))
    return pd.DataFrame(found, columns=["text", "source", "label", "origin"])


def edited(words: list[str], at: int, kind: int) -> list[str]:
    """Leave a word out, double it, put it in capitals, or put another before all."""
    if kind == 0:
        return [*words[:at], *words[at + 1 :]]
    if kind == 1:
        return [*words[: at + 1], *words[at:]]
    return [*words[:at], words[at].upper(), *words[at + 1 :]] if kind == 2 else ["Please:", *words]


def junk(rows: pd.DataFrame) -> pd.DataFrame:
    """Return shuffled words, boilerplate, and other languages."""
    draw, found = random.Random(2), []
    for text in rows["text"].sample(JUNK, random_state=2):
        words = re.findall(r"\S+", text)[:100]
        found.append((" ".join(draw.sample(words, len(words))), "shuffled words"))
    for phrases, label in ((BOILERPLATE, "boilerplate"), (FOREIGN, "other language")):
        found += [(" ".join(draw.sample(phrases, draw.randint(2, 8))), label) for _ in range(JUNK)]
    table = pd.DataFrame(found, columns=["text", "label"])
    return table.assign(source="junk", origin=np.nan)


def joined(table: pd.DataFrame, *columns: str) -> pd.Series:
    """Join the columns of each row that are not empty."""
    return table[list(columns)].fillna("").apply(lambda row: "\n".join(part for part in row if part), axis=1)


def frame(text: pd.Series, source: pd.Series | str, label: pd.Series | str) -> pd.DataFrame:
    return pd.DataFrame({"text": text, "source": source, "label": label})
