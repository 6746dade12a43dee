"""Devices: those that torch can compute on here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

PLACEMENTS = (None, "auto", "balanced", "balanced_low_0", "sequential", "disk")  # accelerate chooses the devices


def available(device: Any, argument: str = "device") -> torch.device:
    """Return a device with its index.

    Args:
        argument: what an error calls it.

    Raises:
        ValueError: It is not available here.
    """
    try:
        probe = torch.empty(1, device=device)
        if probe.device.type == "meta":
            raise ValueError("it holds no numbers")
        return probe.device
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"`{argument}={str(device)!r}` is not available here: {reason}; pass 'cpu', or an accelerator of this "
            "machine such as 'cuda:0' or 'mps'"
        ) from error


def check_device_map(device_map: Any) -> None:
    """Check that the devices of a `device_map` of transformers are available.

    Raises:
        ValueError: One is not.
    """
    for device in device_map.values() if isinstance(device_map, Mapping) else [device_map]:
        if device not in PLACEMENTS:
            available(device, "device_map")
