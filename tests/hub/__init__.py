"""A Hugging Face Hub on localhost, for the real client: repos in memory, LFS, pull requests, tokens and faults.

`serve()` runs a Hub, `connect` points the libraries of this process at it, `environment` those
of another. The token `hf_alice` is alice's; she may write what lies under `alice/`. Not here: Xet, organizations, long
lists in pages, redirects to a CDN, comments.
"""

from .client import connect, environment, go_offline
from .repos import LFS_SIZE, File
from .server import serve

__all__ = ["LFS_SIZE", "File", "connect", "environment", "go_offline", "serve"]
