"""One Ray cluster on this machine for all tests of a process that need one."""

import gc
import os
import warnings
from contextlib import contextmanager

import pytest

from hf_sae_select.engines.cluster import QUIET, Cluster
from hf_sae_select.engines.engine import Ray


@contextmanager
def what_ray_leaves_open():
    """Ignore that Ray 2.50 closes no file that it starts processes with, and waits for no process that it stops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="session")
def ray():
    """Ray, connected to a cluster of 16 CPUs by its own accounts."""
    os.environ |= QUIET
    ray = pytest.importorskip("ray", reason='needs Ray: pip install "hf-sae-select[ray]"')
    with what_ray_leaves_open():
        ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    with what_ray_leaves_open():
        ray.shutdown()


@pytest.fixture
def cluster(ray):
    """Two workers."""
    with Cluster(Ray(workers=2)) as cluster:
        yield cluster
