"""Formats of SAEs on the Hub. Each is a record of how to recognise and read it.

`sae.candidates` tries FORMATS in this order. If file names are ambiguous, configs and tensors decide.
"""

from __future__ import annotations

from .dictionary_learning import DICTIONARY_LEARNING
from .format import Format
from .gemma_scope import GEMMA_SCOPE_1, GEMMA_SCOPE_2
from .native import NATIVE
from .openmoss import LLAMA_SCOPE, LLAMA_SCOPE_R1, LLAMASCOPIUM
from .saelens import SAELENS
from .single_file import CONNOR_ROB, GOODFIRE, MWHANNA, OPENAI, QRESEARCH, QWEN_SCOPE
from .sparsify import SPARSIFY

FORMATS: tuple[Format, ...] = (
    NATIVE,
    SAELENS,
    SPARSIFY,
    GEMMA_SCOPE_1,
    GEMMA_SCOPE_2,
    LLAMA_SCOPE,
    LLAMA_SCOPE_R1,
    LLAMASCOPIUM,
    DICTIONARY_LEARNING,
    QWEN_SCOPE,
    MWHANNA,
    CONNOR_ROB,
    OPENAI,
    GOODFIRE,
    QRESEARCH,
)

# Unsupported formats and why: regular expression of a file's path -> what the repo contains.
UNSUPPORTED = (
    (r"(^|/)W_enc_\d+\.safetensors$", "a cross-layer transcoder, which reads several layers at once"),
    (r"(^|/)latest_ckpt\.safetensors$", "temporal SAEs, which encode a whole sequence at once"),
    (r"(^|/)(crosscoder|clt)/", "crosscoders, which read several layers at once"),
)
