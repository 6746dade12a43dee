"""What dead latents cost a training step: gradients with AuxK by sums over what fired, and by dense products.

    python benchmarks/auxk.py [--d-in 384 1024 4096] [--tokens 1024] [--threads 1]

Random weights and hidden states, TopK with k 32 of 16,384 latents. Each line has the CPU seconds of the gradients of
one batch, the median of five, as a ratio to the gradients without a dead latent. `multiple` says how many times more
latents are dead than AuxK takes of each token: half the width, but at most `auxk_latents`.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_sae_select.training import objectives
from hf_sae_select.training.config import SaeTrainingConfig
from hf_sae_select.training.objectives import Parameters, TopK, compute_gradients

D_SAE, K = 2**14, 32
MULTIPLES = (0.5, 1, 2, 4, 8, 16)
BY_SUMS, BY_PRODUCTS = 0, D_SAE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-in", type=int, nargs="+", default=[384, 1024, 4096], help="widths of the model")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a batch")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.tokens:,} tokens, d_sae {D_SAE:,}, k {K}, {args.threads} threads")
    print(f"{'d_in':>6}{'AuxK latents':>14}{'dead':>8}{'multiple':>10}{'sums':>8}{'products':>10}{'library':>9}")
    for d_in in args.d_in:
        step = Step(d_in, args.tokens)
        step.seconds(0)  # the first calls are slow
        alone, latents = step.seconds(0), step.objective.auxk_latents
        for multiple in MULTIPLES:
            dead = round(multiple * latents)
            by_sums, by_products = (step.seconds(dead, limit) / alone for limit in (BY_SUMS, BY_PRODUCTS))
            library = "products" if dead <= objectives.DENSE_AUXK * latents else "sums"
            line = f"{d_in:>6}{latents:>14}{dead:>8,}{multiple:>10g}{by_sums:>7.1f}x{by_products:>9.1f}x"
            print(f"{line}{library:>10}", flush=True)


class Step:
    """The gradients of one batch of random hidden states."""

    def __init__(self, d_in: int, tokens: int) -> None:
        generator = torch.Generator().manual_seed(0)
        W_dec = F.normalize(torch.randn(D_SAE, d_in, generator=generator), dim=1)
        self.weights = Parameters(W_dec.clone(), W_dec, torch.zeros(D_SAE), torch.zeros(d_in))
        self.x = torch.randn(tokens, d_in, generator=generator)
        self.pre = self.x @ W_dec.T
        self.objective = TopK(SaeTrainingConfig("topk", d_sae=D_SAE, k=K), d_in, self.x.device)
        self.order = torch.randperm(D_SAE, generator=generator)

    def seconds(self, dead: int, limit: int = 0) -> float:
        """Return the CPU seconds of the gradients; AuxK uses dense products up to a multiple of its latents."""
        with mock.patch.object(objectives, "DENSE_AUXK", limit):
            return median(self._once(self.order[:dead].sort().values) for _ in range(5))

    @torch.no_grad()
    def _once(self, dead: Tensor) -> float:
        began = time.process_time()
        compute_gradients(self.weights, self.objective, self.x, self.pre, dead, warmup=1.0)
        return time.process_time() - began


if __name__ == "__main__":
    main()
