"""Label the features of the packaged SAE, on the permissively licensed text that it was trained on.

    python examples/label_default_sae.py --data FOLDER --out hf_sae_select/sae/default

FOLDER holds the Parquet files that `train_default_sae.py` names. The labels hold words, spans of up to three words and
scores, and no text of these files. The same files, seed and library versions give the same labels.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset, load_dataset
from train_default_sae import PASSAGE, SOURCES, Source

from hf_sae_select import Labels, SparseAutoencoder, label_features
from hf_sae_select.sae.card import CARD_FILE, sae_card
from hf_sae_select.sae.labels_beside import LABELS_FILE, count_names

COMMAND = "python examples/label_default_sae.py --data FOLDER --out hf_sae_select/sae/default"
TOKENS = 64  # read of each document: many documents have more words than many tokens of a few
ROWS = {  # of each source
    "dolly_15k": 3000,
    "oasst1_en_train_texts": 3000,
    "gsm8k_train": 1200,
    "t0_train_50k": 3000,
    "text_novels100": 1800,
}


def documents(folder: Path, share: float = 1.0) -> Iterator[str]:
    """Yield documents of each source, drawn by a seed; `share` of them as many as the labels are made from."""
    for source in SOURCES:
        yield from draw(folder, source, round(share * ROWS[source.file]))


def draw(folder: Path, source: Source, number: int) -> list[str]:
    """Return documents of a source; novels are cut into passages."""
    rows: Dataset = load_dataset("parquet", data_files=str(folder / f"{source.file}.parquet"), split="train")
    rng = random.Random(1)
    order = list(range(len(rows)))
    rng.shuffle(order)
    if source.file == "text_novels100":
        texts = [text[i : i + PASSAGE] for text in rows["text"] for i in range(0, len(text), PASSAGE)]
        rng.shuffle(texts)
        return [text for text in texts if text.strip()][:number]
    return [text for text in (source.text(rows[i]) for i in order[:number]) if text.strip()]


def main() -> None:
    args = arguments()
    sae = SparseAutoencoder.from_pretrained(args.out)
    texts = Dataset.from_dict({"text": list(documents(args.data))})
    made = label_features(texts, sae, rows=len(texts), max_length=TOKENS, context_size=TOKENS, examples=0)
    facts = {"text": [f"{source.origin} ({source.licence})" for source in SOURCES], "command": COMMAND}
    labels = Labels(made, made.d_sae, made.sae_sha256, made.metadata | facts)
    labels.save(args.out / LABELS_FILE)
    card = sae_card(sae.config, names=count_names(args.out / LABELS_FILE))
    (args.out / CARD_FILE).write_text(card, encoding="utf-8")
    print(labels)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the SAE, to write labels.parquet to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
