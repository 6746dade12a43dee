"""Label the features of the packaged SAE, on the permissively licensed text that it was trained on.

    python examples/label_default_sae.py --data FOLDER --out hf_sae_select/sae/default

FOLDER holds the Parquet files that `train_default_sae.py` names. The labels hold words, spans of up to three words and
scores, and no text of these files. The same files, seed and library versions give the same labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import Dataset
from train_default_sae import SOURCES, read_documents

from hf_sae_select import Labels, label_features

COMMAND = "python examples/label_default_sae.py --data FOLDER --out hf_sae_select/sae/default"
TOKENS = 64  # read of each document: many documents have more words than many tokens of a few


def main() -> None:
    args = arguments()
    training, held_out = read_documents(args.data, seed=0)
    documents = Dataset.from_dict({"text": training + held_out})
    made = label_features(documents, rows=args.rows, max_length=TOKENS, context_size=TOKENS, examples=0)
    facts = {"text": [f"{source.origin} ({source.licence})" for source in SOURCES], "command": COMMAND}
    labels = Labels(made, made.d_sae, made.sae_sha256, made.metadata | facts)
    labels.save(args.out)
    print(labels)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the SAE, to write labels.parquet to")
    parser.add_argument("--rows", type=int, default=10_000, help="documents to read (default: 10,000)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
