"""The sparse autoencoder: its equations, and the one layout it is kept in. No datasets, no transformers.

    pre = x @ W_enc + b_enc                      x [tokens, d_in], pre [tokens, d_sae]
    z   = act(pre)                               relu:      max(pre, 0)
                                                 jumprelu:  max(pre, 0) where pre > threshold, else 0
                                                 topk:      the k largest of each token, negatives dropped
    x'  = z @ W_dec + b_dec

There is no pre-encoder bias and no input scale: both fold into W_enc and b_enc, and are folded before they get here.
On disk it is a folder that SAELens 6 reads: `cfg.json` and `sae_weights.safetensors`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
ARCHITECTURES = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk"}  # ours -> SAELens's word

# Tokens whose pre-activations are held at once: 512 x 8,192 floats are 16 MB, which stays in cache and off `mmap`.
CHUNK_FLOATS = 2**22
# With only a handful of rows per thread BLAS sums in another order; more rows than this and it never does.
FEW_ROWS = 256


@dataclass(frozen=True)
class SaeConfig:
    """Say what an SAE is and what it reads."""

    d_in: int
    """Width of the residual stream it reads."""
    d_sae: int
    """Number of latents, that is, of features."""
    activation: str
    """relu, jumprelu or topk. BatchTopK is a way to train; what it leaves behind is a jumprelu."""
    model: str
    """Hub id of the language model."""
    hook: str
    """Path of the module inside the model whose output is read, such as `encoder.layer.3`."""
    model_revision: str | None = None
    """Commit of the language model."""
    k: int | None = None
    """Latents per token, for topk."""
    feature_threshold: float = 0.0
    """A row *has* a feature when its largest activation over the row's tokens is above this; calibrated per SAE."""
    context_size: int | None = None
    """Window, in tokens with the special ones, that it was trained on; None: as long as the model reads."""
    training: dict[str, Any] = field(default_factory=dict)
    """What is known of how the weights were made, JSON values only."""

    def __post_init__(self) -> None:
        if self.activation not in ARCHITECTURES:
            raise ValueError(f"unknown `activation={self.activation!r}`; known: {', '.join(ARCHITECTURES)}")
        if not (self.d_in >= 1 and self.d_sae >= 1):
            raise ValueError(f"`d_in={self.d_in!r}` and `d_sae={self.d_sae!r}` must be whole numbers from 1 on")
        if self.activation == "topk" and not (self.k and 1 <= self.k <= self.d_sae):
            raise ValueError(
                f"`activation='topk'` needs `k`, the latents per token, from 1 to d_sae; it is {self.k!r}"
            )
        if not 0 <= self.feature_threshold < math.inf:
            raise ValueError(f"`feature_threshold={self.feature_threshold!r}` must be a finite number from 0 on")


class SparseAutoencoder(nn.Module):
    """Turn residual-stream vectors into sparse features and back.

    Parameters: `W_enc` [d_in, d_sae], `b_enc` [d_sae], `W_dec` [d_sae, d_in], `b_dec` [d_in], and for jumprelu
    `threshold` [d_sae].

    Example, two latents that detect +x and +y in the plane::

        sae.W_enc = [[1, 0],      sae.encode([[3, -1]])  ->  [[3, 0]]
                     [0, 1]]
    """

    def __init__(self, config: SaeConfig) -> None:
        super().__init__()
        self.config = config
        d_in, d_sae = config.d_in, config.d_sae
        self.W_enc = nn.Parameter(torch.zeros(d_in, d_sae))
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(torch.zeros(d_sae, d_in))
        self.b_dec = nn.Parameter(torch.zeros(d_in))
        self.threshold = nn.Parameter(torch.zeros(d_sae)) if config.activation == "jumprelu" else None

    def encode(self, x: Tensor) -> Tensor:
        """Return the features of each vector: [..., d_in] -> [..., d_sae]."""
        return self._activate(x @ self.W_enc + self.b_enc)

    def decode(self, z: Tensor) -> Tensor:
        """Return the reconstruction: [..., d_sae] -> [..., d_in]."""
        return z @ self.W_dec + self.b_dec

    def encode_max(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the largest activation of each feature over each segment of consecutive vectors.

        Segment i is the next `lengths[i]` (at least 1) rows of `x` [sum(lengths), d_in]; the result is
        [len(lengths), d_sae] and equals encoding every vector and taking the maximum. ReLU and JumpReLU never fall as
        `pre` grows and look at each latent alone, so the maximum is taken first and the bias and the activation are
        applied once a segment, not once a token. Top-k compares latents within a token: it cannot wait.
        """
        pooled = x.new_empty(len(lengths), self.config.d_sae)
        early = self.config.activation == "topk"
        first = start = 0
        for chunk in _chunks(lengths, CHUNK_FLOATS // self.config.d_sae):
            pre = _product(x[start : start + sum(chunk)], self.W_enc)
            if early:
                pre = self._activate(pre + self.b_enc)
            for i, segment in enumerate(torch.split(pre, chunk)):
                torch.amax(segment, dim=0, out=pooled[first + i])
            first, start = first + len(chunk), start + sum(chunk)
        return pooled if early else self._activate(pooled.add_(self.b_enc))

    def encode_max_and_sum(self, x: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what `encode_max` does, and the sum of each feature's activations over each segment in float32.

        Example, one segment in which a feature fires at 3 and at 1: the maximum is 3, the sum 4. A sum needs every
        token's activation, where `encode_max` needs one a segment; segment by segment, they stay in cache.
        """
        largest, sums, rest = [], [], x
        for chunk in _chunks(lengths, CHUNK_FLOATS // self.config.d_sae):
            pre = _product(rest[: sum(chunk)], self.W_enc).add_(self.b_enc)
            for segment in torch.split(pre, chunk):
                z = self._activate(segment)
                largest.append(z.amax(dim=0))
                sums.append(_sum(z.float()))
            rest = rest[sum(chunk) :]
        return torch.stack(largest), torch.stack(sums)

    def _activate(self, pre: Tensor) -> Tensor:
        if self.threshold is not None:
            return torch.where(pre > self.threshold, pre, 0.0).relu()
        if self.config.activation == "topk":
            strongest = pre.topk(self.config.k or 0, dim=-1)
            return torch.zeros_like(pre).scatter(-1, strongest.indices, strongest.values.relu())
        return pre.relu()

    def digest(self) -> str:
        """Return the SHA-256 of all that `encode` depends on: the activation, and the encoder's numbers as float32."""
        found = hashlib.sha256(f"{self.config.activation} {self.config.k}".encode())
        for tensor in (self.W_enc, self.b_enc, self.threshold):
            if tensor is not None:
                found.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return found.hexdigest()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `cfg.json` and `sae_weights.safetensors` into `folder`, weights as `dtype`; SAELens 6 reads them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: p.detach().to("cpu", dtype).contiguous() for name, p in self.named_parameters()}
        save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        text = json.dumps(_to_saelens(self.config, str(dtype).removeprefix("torch.")), indent=2, sort_keys=True)
        (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SparseAutoencoder:
        """Read a folder that `save_pretrained` wrote; weights become float32.

        Raises:
            FileNotFoundError: the folder lacks one of the two files.
            ValueError: the config names something we do not compute, or a tensor is missing, unexpected, of another
                shape than the config says, or not finite.
        """
        folder = Path(folder)
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"no `{name}` in {folder}: an SAE is {CONFIG_FILE} beside {WEIGHTS_FILE}")
        try:
            cfg = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            tensors = {name: t.float() for name, t in load_file(folder / WEIGHTS_FILE).items()}
        except (ValueError, SafetensorError) as error:
            raise ValueError(f"cannot read {CONFIG_FILE} or {WEIGHTS_FILE} in {folder}: {error}") from error
        if not isinstance(cfg, dict):
            raise ValueError(f"{CONFIG_FILE} in {folder} is no JSON object")
        sae = cls(_from_saelens(cfg))
        _check_tensors(tensors, {name: p.shape for name, p in sae.named_parameters()})
        sae.load_state_dict(tensors, assign=True)
        return sae.requires_grad_(False)


def segment_sums(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the float32 sum of each segment of consecutive vectors: [sum(lengths), d] -> [len(lengths), d]."""
    return torch.stack([_sum(segment) for segment in torch.split(x.float(), list(lengths))])


def _sum(rows: Tensor) -> Tensor:
    """Return the sum of the rows, by additions that the number of rows alone decides.

    `Tensor.sum` adds in an order that depends on the column and on the number of threads. Here one half is added to
    the other until one row is left.
    """
    while len(rows) > 1:
        half, odd = divmod(len(rows), 2)
        pairs = rows[:half] + rows[half + odd :]
        if odd:
            pairs[0] += rows[half]
        rows = pairs
    return rows[0]


def _product(x: Tensor, weights: Tensor) -> Tensor:
    """Return x @ weights, each row by the same sums whatever the number of rows."""
    if len(x) >= FEW_ROWS:
        return x @ weights
    return (nn.functional.pad(x, (0, 0, 0, FEW_ROWS - len(x))) @ weights)[: len(x)]


def _chunks(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Group consecutive lengths so that each group sums to at most `size`, or is one long segment."""
    groups: list[list[int]] = []
    room = 0
    for length in lengths:
        if length > room:
            groups.append([])
            room = size
        groups[-1].append(length)
        room -= length
    return groups


def _to_saelens(config: SaeConfig, dtype: str) -> dict[str, Any]:
    """Say `config` in SAELens 6's words; what SAELens has no word for travels in its free `metadata`."""
    own = asdict(config)
    for name in ("d_in", "d_sae", "activation", "k"):
        own.pop(name)
    metadata = {"model_name": own.pop("model"), "hook_name": own.pop("hook"), "hf_hook_name": config.hook}
    # Without a version SAELens takes a config for one of before 6 and drops its metadata; this is the one tested.
    metadata |= {
        "sae_lens_version": "6.54.12",
        "model_class_name": "AutoModel",
        "prepend_bos": True,
        "exclude_special_tokens": True,
    }
    cfg = {"d_in": config.d_in, "d_sae": config.d_sae, "architecture": ARCHITECTURES[config.activation]}
    cfg |= {"dtype": dtype, "device": "cpu", "apply_b_dec_to_input": False}
    cfg |= {"normalize_activations": "none", "reshape_activations": "none", "metadata": metadata | own}
    return cfg | ({"k": config.k, "rescale_acts_by_decoder_norm": False} if config.activation == "topk" else {})


def _from_saelens(cfg: dict[str, Any]) -> SaeConfig:
    """Read back what `_to_saelens` wrote; refuse what this file's equations do not say."""
    plain = {"apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none"}
    plain["rescale_acts_by_decoder_norm"] = False
    for name, value in plain.items():
        if cfg.get(name, value) != value:
            raise ValueError(f"`{name}={cfg[name]!r}` in {CONFIG_FILE} is not supported; only {value!r} is")
    ours = {word: name for name, word in ARCHITECTURES.items()}
    if cfg.get("architecture") not in ours:
        raise ValueError(
            f"unknown `architecture={cfg.get('architecture')!r}` in {CONFIG_FILE}; known: {', '.join(ours)}"
        )
    metadata = cfg.get("metadata") or {}
    metadata = {"hf_hook_name": metadata.get("hook_name")} | metadata
    for name, place in (("d_in", cfg), ("d_sae", cfg), ("model_name", metadata), ("hf_hook_name", metadata)):
        if not place.get(name):
            raise ValueError(f"{CONFIG_FILE} does not say `{name}`; add it{' under `metadata`' * (place is metadata)}")
    names = ("model_revision", "feature_threshold", "context_size", "training")
    return SaeConfig(
        d_in=cfg["d_in"],
        d_sae=cfg["d_sae"],
        activation=ours[cfg["architecture"]],
        k=cfg.get("k"),
        model=metadata["model_name"],
        hook=metadata["hf_hook_name"],
        **{name: metadata[name] for name in names if name in metadata},
    )


def _check_tensors(tensors: dict[str, Tensor], shapes: dict[str, torch.Size]) -> None:
    """Refuse weights that are not exactly what the config promises, naming the tensor."""
    for name in sorted(shapes.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"tensor `{name}` is missing from {WEIGHTS_FILE}")
        if name not in shapes:
            raise ValueError(f"tensor `{name}` in {WEIGHTS_FILE} is unexpected; expected: {', '.join(sorted(shapes))}")
        if tensors[name].shape != shapes[name]:
            raise ValueError(
                f"tensor `{name}` is {list(tensors[name].shape)}; {CONFIG_FILE} says {list(shapes[name])}"
            )
        if not tensors[name].isfinite().all():
            raise ValueError(f"tensor `{name}` in {WEIGHTS_FILE} holds NaN or infinity")
