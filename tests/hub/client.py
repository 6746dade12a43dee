"""Pointing the libraries of this process at a Hub."""

import time
from contextlib import contextmanager

import datasets
import transformers.utils.hub
from huggingface_hub import close_session, constants, file_download, hf_api, hf_file_system
from huggingface_hub.utils import _detect_agent, _http


class Clock:
    """The time module for clients that retry: sleeping takes no time, but is written down."""

    def __init__(self, waits):
        self.sleep = waits.append

    def __getattr__(self, name):
        return getattr(time, name)


@contextmanager
def connect(hub, home, monkeypatch):
    """Point huggingface_hub, datasets and transformers at `hub`, with nobody logged in and `home` as their cache.

    The libraries read their settings when they are imported, so setting the environment is too late here.
    """
    settings = {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HOME": str(home),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_ASSETS_CACHE": str(home / "assets"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    for api in (hf_api.api, hf_file_system.hffs, hf_file_system.hffs._api):  # made at import
        monkeypatch.setattr(api, "endpoint", hub.url)
    # made when it is first used, and kept; transformers 5.0 has none
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)
    monkeypatch.setattr(_detect_agent, "_registry", _detect_agent._EMPTY_REGISTRY)  # or the client asks for it once
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HUB_DATASETS_URL", hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    for module in (_http, file_download, datasets.arrow_dataset, datasets.dataset_dict, datasets.utils.file_utils):
        monkeypatch.setattr(module, "time", Clock(hub.waits))
    close_session()
    try:
        yield
    finally:
        close_session()
        hf_file_system.HfFileSystem.clear_instance_cache()
        hf_file_system.hffs.invalidate_cache()


def go_offline(monkeypatch):
    """Cut the connection again, as HF_HUB_OFFLINE=1 does."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
