"""A session: an engine from the beginning of a call to its end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cluster import Cluster
    from .engine import Processes, Ray
    from .process_shards import ProcessGroup


@contextmanager
def opened(engine: Ray | Processes | None) -> Iterator[Cluster | ProcessGroup | None]:
    """Yield an engine that can work, and stop what it has started; None for this process.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: No cluster is at the address.
        ValueError: There is one process only, or the processes of torchrun would each start Ray.
    """
    if engine is None:
        yield None
    elif engine == "processes":
        from .process_shards import ProcessGroup  # needs torch

        with ProcessGroup() as group:
            yield group
    else:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                f"`engine={engine!r}` in {os.environ['WORLD_SIZE']} processes of torchrun: each would use the cluster "
                "for itself; start one process, or pass engine='processes'"
            )
        from .cluster import Cluster

        with Cluster(engine) as cluster:
            yield cluster
