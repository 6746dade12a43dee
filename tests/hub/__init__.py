"""A Hugging Face Hub on localhost, for the real client: repos in memory, LFS, pull requests, tokens and faults.

`serve()` runs a Hub, `connect` points the libraries of this process at it. The token `hf_alice` is alice's; she may
write what lies under `alice/`. The Hub answers what this package's calls and `load_dataset` ask for, and nothing else.
"""

from .client import connect, go_offline
from .server import serve

__all__ = ["connect", "go_offline", "serve"]
