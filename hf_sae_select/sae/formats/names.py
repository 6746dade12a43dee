"""Names of models and hooks that several formats share."""

from __future__ import annotations

import re

# TransformerLens's short names that are not the last part of the model's Hub id.
MODELS = {
    "gpt2-small": "openai-community/gpt2",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "llama-3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
}
OWNERS = {
    "pythia": "EleutherAI",
    "gemma": "google",
    "qwen": "Qwen",
    "llama": "meta-llama",
    "tiny-stories": "roneneldan",
}


def hub_id(name: str) -> str:
    """Return the Hub id of a model that TransformerLens calls `name`."""
    if "/" in name or name in MODELS:
        return MODELS.get(name, name)
    owner = next((owner for prefix, owner in OWNERS.items() if name.lower().startswith(prefix)), None)
    return f"{owner}/{name}" if owner else name


def split_side(path: str) -> tuple[str, str]:
    """Split `layers.3.output` into the path of the module and the side to read.

    Only below a decoder's layers: BERT has modules named `output`.
    """
    match = re.fullmatch(r"(.*\blayers\.\d+.*)\.(input|output)", path)
    return (match[1], match[2]) if match else (path, "output")
