"""Formats of SAEs on the Hub. Each is a record of how to recognise and read it.

`sae.candidates` tries FORMATS in this order. If file names are ambiguous, configs and tensors decide.
"""

from __future__ import annotations

from .dictionary_learning import DICTIONARY_LEARNING
from .format import Format
from .gemma_scope import GEMMA_SCOPE_1, GEMMA_SCOPE_2, GEMMA_SCOPE_2_CLT
from .native import NATIVE
from .openmoss import LLAMA_SCOPE, LLAMA_SCOPE_R1, LLAMASCOPIUM
from .other import OTHER
from .saelens import SAELENS
from .single_file import (
    CONNOR_ROB,
    FAC_SYNTHESIS,
    GOODFIRE,
    GOODFIRE_R1,
    HYPOTHESAES,
    MNTSS,
    MWHANNA,
    OPENAI,
    QRESEARCH,
    QWEN_SCOPE,
)
from .sparsify import SPARSIFY

FORMATS: tuple[Format, ...] = (
    NATIVE,
    SAELENS,
    SPARSIFY,
    GEMMA_SCOPE_1,
    GEMMA_SCOPE_2,
    GEMMA_SCOPE_2_CLT,
    LLAMA_SCOPE,
    LLAMA_SCOPE_R1,
    LLAMASCOPIUM,
    DICTIONARY_LEARNING,
    QWEN_SCOPE,
    MWHANNA,
    MNTSS,
    CONNOR_ROB,
    OPENAI,
    GOODFIRE,
    GOODFIRE_R1,
    FAC_SYNTHESIS,
    HYPOTHESAES,
    QRESEARCH,
    OTHER,  # fits any tensor file, so it is the last
)

# Unsupported formats and why: regular expression of a file's path -> what the repo contains.
UNSUPPORTED = (
    (r"(^|/)latest_ckpt\.safetensors$", "temporal SAEs, which encode a whole sequence at once"),
    (r"(^|/)crosscoder/", "crosscoders, which read several layers at once"),
)
