"""One Ray cluster on this machine for all tests of a process that need one."""

import os

import pytest

from hf_sae_select.engines.cluster import QUIET, Cluster
from hf_sae_select.engines.engine import Ray


@pytest.fixture(scope="session")
def ray():
    """Ray, connected to a cluster of 16 CPUs by its own accounts."""
    os.environ |= QUIET
    ray = pytest.importorskip("ray", reason='needs Ray: pip install "hf-sae-select[ray]"')
    ray.init(address="local", num_cpus=16, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.fixture
def cluster(ray):
    """Two workers."""
    with Cluster(Ray(workers=2)) as cluster:
        yield cluster
