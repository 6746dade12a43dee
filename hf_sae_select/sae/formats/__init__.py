"""Other people's layouts of SAEs on the Hub: each a record that says how to recognise and how to read it.

`loading` goes through FORMATS in this order; where file names alone do not decide, the tensors do.
"""

from __future__ import annotations

from ..config import SaeConfig
from ..serialization import CONFIG_FILE, LIBRARY, shapes
from .dictionary_learning import DICTIONARY_LEARNING
from .gemma_scope import GEMMA_SCOPE_1, GEMMA_SCOPE_2
from .layout import SAYABLE, Format, Layout, Published
from .openmoss import LLAMA_SCOPE, LLAMA_SCOPE_R1, LLAMASCOPIUM
from .saelens import SAELENS
from .single_file import CONNOR_ROB, GOODFIRE, MWHANNA, OPENAI, QRESEARCH, QWEN_SCOPE
from .sparsify import SPARSIFY


def read_native(published: Published) -> Layout:
    """Read our own layout, `config.json` being the fields of `SaeConfig`."""
    config = SaeConfig.from_dict(published.config)
    return Layout(config, {name: name for name in shapes(config)})


NATIVE = Format(
    "native",
    r"(?:(?P<name>.+)/)?sae_weights\.safetensors",
    read_native,
    (CONFIG_FILE,),
    marks={"library_name": LIBRARY},
)

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

# What lies on the Hub beside SAEs and is none: a file's path -> what it is.
REFUSED = (
    (r"(^|/)W_enc_\d+\.safetensors$", "a cross-layer transcoder, which reads several layers at once"),
    (r"(^|/)latest_ckpt\.safetensors$", "temporal SAEs, which encode a whole sequence at once"),
    (r"(^|/)(crosscoder|clt)/", "crosscoders, which read several layers at once"),
)

__all__ = ["FORMATS", "REFUSED", "SAYABLE", "Format", "Layout", "Published"]
