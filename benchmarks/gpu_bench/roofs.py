"""What the machine can do at most: products in each precision, and copies. The other parts are compared with this."""

from __future__ import annotations

import platform
from functools import partial
from importlib.metadata import version

import torch

from .bench import Bench, Figures
from .shapes import model_of

PRECISIONS = ("bfloat16, plain", "tf32", "float32", "bfloat16x3", "bfloat16")


def measure(bench: Bench) -> None:
    bench.measure("machine", lambda: facts(bench))
    for rows, d_in, d_sae in bench.sizes.products:
        for precision in PRECISIONS:
            bench.measure(
                "products",
                partial(product, bench, precision, rows, d_in, d_sae),
                rows=rows,
                d_in=d_in,
                d_sae=d_sae,
                precision=precision,
            )
    bench.measure("copies, GB/s", lambda: copies(bench))


def product(bench: Bench, precision: str, rows: int, d_in: int, d_sae: int) -> Figures:
    return {"TFLOPS": bench.operations(precision, rows, d_in, d_sae) / 1e12}


def facts(bench: Bench) -> Figures:
    names = {name: version(name) for name in ("torch", "transformers", "datasets")}
    card = {"card": platform.processor() or platform.machine()}
    if bench.is_cuda:
        properties = torch.cuda.get_device_properties(bench.device)
        memory = f"{properties.total_memory / 2**30:.0f}"
        card = {"card": properties.name, "GB": memory, "CUDA": str(torch.version.cuda)}
    model = model_of(bench.sizes.models[bench.sizes.main], torch.device("meta"))
    flags = {"float32 products": torch.get_float32_matmul_precision(), "attention": model.config._attn_implementation}
    return {**card, **names, "threads": torch.get_num_threads(), **flags}


def copies(bench: Bench) -> Figures:
    """Time copies within the device, and between it and memory of the host that is pinned or not."""
    host = torch.zeros(bench.sizes.copies)
    on_device, other = host.to(bench.device), torch.empty(bench.sizes.copies, device=bench.device)
    gigabytes = host.nbytes / 1e9
    figures = {
        # a copy within the device reads and writes
        "within": 2 * gigabytes / bench.median(lambda: other.copy_(on_device)),
        "to, pageable": gigabytes / bench.median(lambda: other.copy_(host)),
        "from, pageable": gigabytes / bench.median(lambda: host.copy_(on_device)),
    }
    if bench.is_cuda:
        pinned = host.pin_memory()
        figures["to, pinned"] = gigabytes / bench.median(lambda: other.copy_(pinned, non_blocking=True))
        figures["from, pinned"] = gigabytes / bench.median(lambda: pinned.copy_(on_device, non_blocking=True))
    return figures
