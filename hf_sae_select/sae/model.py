"""The sparse autoencoder: its equations, and its way to and from the Hub. No datasets, no transformers.

    x^  = norm(x)                                input_norm: none, layer_norm or rms, of each vector by itself
    pre = x^ @ W_enc + b_enc                     x [tokens, d_in], pre [tokens, d_sae]
    z   = act(pre)                               relu:      max(pre, 0)
                                                 jumprelu:  max(pre, 0) where pre > threshold, else 0
                                                 topk:      the k largest of each token, negatives dropped
                                                 abstopk:   the k largest by size, signs kept
                                                 groupmax:  the largest of each of k groups of neighbours, likewise
    x'  = z @ W_dec + b_dec (+ x @ W_skip.T)     and the norm undone, for an SAE; a transcoder puts out other vectors

There is no pre-encoder bias, no input scale and no gate: they fold into these, and are folded before they get here.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import CommitInfo, ModelHubMixin
from torch import Tensor, nn

from .._cards import merged, parsed
from .._hub import Repo, inside, prepare, push
from .card import is_local, sae_card
from .config import SaeConfig
from .serialization import CONFIG_FILE, WEIGHTS_FILE, check_tensors, put_text, read_native, shapes, write_native

# Tokens whose pre-activations are held at once: 512 x 8,192 floats are 16 MB, which stays in cache and off `mmap`.
CHUNK_FLOATS = 2**22
# With only a handful of rows per thread BLAS sums in another order; more rows than this and it never does.
FEW_ROWS = 256
NORM_EPSILON = 1e-5  # SAELens's and OpenAI's
# Activations that look at each latent alone and never fall as `pre` grows: a maximum over tokens may be taken first.
MONOTONE = ("relu", "jumprelu")


class SparseAutoencoder(nn.Module, ModelHubMixin):
    """Turn residual-stream vectors into sparse features and back.

    Parameters: `W_enc` [d_in, d_sae], `b_enc` [d_sae], `W_dec` [d_sae, d_out], `b_dec` [d_out], for jumprelu
    `threshold` [d_sae], for transcoders with a skip `W_skip` [d_out, d_in]. Loaded with `encoder_only`, an SAE has
    what `encode` needs, and None for the others.

    Example, two latents that detect +x and +y in the plane::

        sae.W_enc = [[1, 0],      sae.encode([[3, -1]])  ->  [[3, 0]]
                     [0, 1]]
    """

    def __init__(self, config: SaeConfig) -> None:
        super().__init__()
        self.config = config
        sizes = shapes(config)
        self.W_enc = nn.Parameter(torch.zeros(sizes["W_enc"]))
        self.b_enc = nn.Parameter(torch.zeros(sizes["b_enc"]))
        self.W_dec: nn.Parameter | None = nn.Parameter(torch.zeros(sizes["W_dec"]))
        self.b_dec: nn.Parameter | None = nn.Parameter(torch.zeros(sizes["b_dec"]))
        self.W_skip = nn.Parameter(torch.zeros(sizes["W_skip"])) if "W_skip" in sizes else None
        self.threshold = nn.Parameter(torch.zeros(sizes["threshold"])) if "threshold" in sizes else None

    @classmethod
    def of(cls, config: SaeConfig, tensors: dict[str, Tensor]) -> SparseAutoencoder:
        """Build an SAE around tensors; without `W_dec` among them, one that only encodes."""
        with torch.device("meta"):  # nothing is allocated: the tensors themselves become the parameters
            sae = cls(config)
        if "W_dec" not in tensors:
            sae.W_dec = sae.b_dec = sae.W_skip = None
        sae.load_state_dict(tensors, strict=True, assign=True)
        return sae.requires_grad_(False)

    def encode(self, x: Tensor) -> Tensor:
        """Return the features of each vector: [..., d_in] -> [..., d_sae]."""
        return self._activate(self._normalised(x) @ self.W_enc + self.b_enc)

    def decode(self, z: Tensor) -> Tensor:
        """Return the reconstruction, as the decoder gives it: [..., d_sae] -> [..., d_out].

        Raises:
            ValueError: the SAE was loaded with `encoder_only`.
        """
        W_dec, b_dec = self.decoder()
        return z @ W_dec + b_dec

    def decoder(self) -> tuple[Tensor, Tensor]:
        """Return `W_dec` and `b_dec`.

        Raises:
            ValueError: the SAE was loaded with `encoder_only`.
        """
        if self.W_dec is None or self.b_dec is None:
            raise ValueError("this SAE has no decoder: it was loaded with `encoder_only=True`; load it without")
        return self.W_dec, self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` encoded, decoded and in its own units again: [..., d_in] -> [..., d_out]."""
        return self.rebuild(self.encode(x), x)

    def rebuild(self, z: Tensor, x: Tensor) -> Tensor:
        """Return what `forward` makes of `x` from its features, or from others put in their place."""
        out = self.decode(z)
        if self.W_skip is not None:
            out = out + x @ self.W_skip.T
        if self.config.input_norm == "none" or self.config.d_out is not None:
            return out
        mean, size = self._moments(x)
        return out * size + mean

    def encode_max(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return the largest activation of each feature over each segment of consecutive vectors.

        Segment i is the next `lengths[i]` (at least 1) rows of `x` [sum(lengths), d_in]; the result is
        [len(lengths), d_sae] and equals encoding every vector and taking the maximum, from 0 on. ReLU and JumpReLU
        never fall as `pre` grows and look at each latent alone, so the maximum is taken first and the bias and the
        activation are applied once a segment, not once a token. The others compare latents within a token: they cannot
        wait. An abstopk latent that fires below 0 speaks of the opposite, and does not count.
        """
        x = self._normalised(x)
        pooled = x.new_empty(len(lengths), self.config.d_sae)
        early = self.config.activation not in MONOTONE
        first = start = 0
        for chunk in _chunks(lengths, CHUNK_FLOATS // self.config.d_sae):
            pre = _product(x[start : start + sum(chunk)], self.W_enc)
            if early:
                pre = self._activate(pre + self.b_enc)
            for i, segment in enumerate(torch.split(pre, chunk)):
                torch.amax(segment, dim=0, out=pooled[first + i])
            first, start = first + len(chunk), start + sum(chunk)
        return pooled.relu_() if early else self._activate(pooled.add_(self.b_enc))

    def encode_max_and_sum(self, x: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return what `encode_max` does, and the sum of each feature's activations over each segment in float32.

        Example, one segment in which a feature fires at 3 and at 1: the maximum is 3, the sum 4. A sum needs every
        token's activation, where `encode_max` needs one a segment; segment by segment, they stay in cache.
        """
        largest, sums, rest = [], [], self._normalised(x)
        for chunk in _chunks(lengths, CHUNK_FLOATS // self.config.d_sae):
            pre = _product(rest[: sum(chunk)], self.W_enc).add_(self.b_enc)
            for segment in torch.split(pre, chunk):
                z = self._activate(segment).relu()
                largest.append(z.amax(dim=0))
                sums.append(_sum(z.float()))
            rest = rest[sum(chunk) :]
        return torch.stack(largest), torch.stack(sums)

    def _activate(self, pre: Tensor) -> Tensor:
        if self.threshold is not None:
            return torch.where(pre > self.threshold, pre, 0.0).relu()
        kind, k = self.config.activation, self.config.k or 0
        if kind == "relu":
            return pre.relu()
        if kind == "abstopk":
            where = pre.abs().topk(k, dim=-1).indices
            return torch.zeros_like(pre).scatter(-1, where, pre.gather(-1, where))
        if kind == "groupmax":
            groups = pre.unflatten(-1, (k, -1))
            best = groups.max(dim=-1, keepdim=True)
            return torch.zeros_like(groups).scatter(-1, best.indices, best.values.relu()).flatten(-2)
        strongest = pre.topk(k, dim=-1)
        return torch.zeros_like(pre).scatter(-1, strongest.indices, strongest.values.relu())

    def _normalised(self, x: Tensor) -> Tensor:
        if self.config.input_norm == "none":
            return x
        mean, size = self._moments(x)
        # Only layer norm adds something first; a vector of zeros stays one.
        return (x - mean) / (size + NORM_EPSILON if self.config.input_norm == "layer_norm" else size + (size == 0))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `input_norm` takes off each vector, and what it then divides by."""
        if self.config.input_norm == "layer_norm":
            return x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)
        root_mean_square = x.square().mean(dim=-1, keepdim=True).sqrt()
        return torch.zeros_like(root_mean_square), root_mean_square

    def digest(self) -> str:
        """Return the SHA-256 of all that `encode` depends on: norm, activation, the encoder's numbers as float32."""
        norm = "" if self.config.input_norm == "none" else f" {self.config.input_norm}"
        found = hashlib.sha256(f"{self.config.activation} {self.config.k}{norm}".encode())
        for tensor in (self.W_enc, self.b_enc, self.threshold):
            if tensor is not None:
                found.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return found.hexdigest()

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, *, repo_id: str | None = None, push_to_hub: bool = False, **options: Any
    ) -> CommitInfo | None:
        """Write this SAE into a folder: weights in the type they have, both configs, and a card where there is none.

        Args:
            push_to_hub: push it too, to `repo_id` or else a repo of the folder's name; `options` go there.
        """
        if options and not push_to_hub:
            raise TypeError(f"`{next(iter(options))}` is for pushing; pass `push_to_hub=True` too, or leave it out")
        folder, card = Path(save_directory), sae_card(self.config)
        self._save_pretrained(folder)
        if not (folder / "README.md").exists():
            put_text(folder / "README.md", card)
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write all but the card."""
        self.decoder()  # must be there
        tensors = {name: p.detach().to("cpu").contiguous() for name, p in self.named_parameters()}
        write_native(save_directory, self.config, tensors)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        encoder_only: bool = False,
    ) -> SparseAutoencoder:
        """Load an SAE that `save_pretrained` or `push_to_hub` wrote, from a folder or a Hub repo at one commit.

        SAEs in other people's layouts, SAELens's among them: `hf_sae_select.load_sae`.

        Args:
            encoder_only: leave the decoder on disk; the SAE then encodes only.

        Raises:
            FileNotFoundError: there is no such folder or repo, or it lacks one of the two files.
            ValueError: the config names something we do not compute, or a tensor is missing, unexpected, of another
                shape than the config says, or not finite.
        """
        repo = Repo.at(pretrained_model_name_or_path, revision, token, cache_dir, local_files_only)
        within = inside(subfolder)
        files = [repo.fetch(within + name) for name in (CONFIG_FILE, WEIGHTS_FILE)]
        source = repo.source(within + WEIGHTS_FILE)
        source |= {"format": "native"} if source else {}
        config, tensors = read_native(*files, encoder_only=encoder_only, source=source)
        check_tensors(tensors, WEIGHTS_FILE)
        return cls.of(config, {name: tensor.to(device, dtype) for name, tensor in tensors.items()})

    def push_to_hub(  # type: ignore[override]
        self,
        repo_id: str,
        *,
        subfolder: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str = "Upload sparse autoencoder",
        token: str | bool | None = None,
        license: str | None = None,
    ) -> CommitInfo:
        """Write this SAE to a Hub repo, created if need be, in one commit: weights, both configs and the card.

        The text of a README that is there is kept, and what its metadata says too; only what is missing is added.

        Args:
            subfolder: where in the repo, for several SAEs in one; by default at the top.
            revision: the branch to write to; by default main.
            create_pr: propose the commit as a pull request instead.
            license: of the weights, for the card's metadata, such as `apache-2.0`; by default none is stated.

        Raises:
            ValueError: the SAE has no decoder, or names its language model by a path that others do not have.
            FileNotFoundError, PermissionError, OSError: the Hub refuses or is out of reach; nothing was written.
        """
        if is_local(self.config.model):
            raise ValueError(
                f"`config.model={self.config.model!r}` is a path on this machine, which users of the repo lack; "
                "set `sae.config = dataclasses.replace(sae.config, model='owner/name')` first"
            )
        within = inside(subfolder)
        subfolder = within.rstrip("/") or None
        sae_card(self.config)  # what cannot be told of it must show before a repo is made
        with tempfile.TemporaryDirectory() as folder:
            self._save_pretrained(Path(folder))
            files: dict[str, Path | bytes] = {within + file.name: file for file in Path(folder).iterdir()}
            repo, readme = prepare(repo_id, private=private, revision=revision, token=token)
            license = license or (readme and parsed(readme).data.get("license"))
            card = sae_card(self.config, repo.name, subfolder, license)
            files["README.md"] = merged(card, readme).encode()
            return push(repo, files, message=commit_message, revision=revision, create_pr=create_pr)


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
