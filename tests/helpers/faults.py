"""Every kind of fault at every request: what the Hub, or the way to it, can do to a call of this library.

A case is one call with one fault. It survives if what comes out is true: a result only if it is right, and otherwise
an error of our kinds. `tests/soak/hub_faults.py` runs all of them and prints how many were tried and survived.
"""

import gc
import json
import shutil
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

import pytest
from hub import connect, serve
from hub.repos import Answer, Refused
from huggingface_hub.utils import httpx

from hf_sae_select import cli

HTML = b"<!doctype html><title>Log in</title><p>Welcome to the network of this hotel.</p>"
FOREVER = 10**9


def refused(status, code=None):
    return lambda answer: Refused(status, "As the test asked", code).answer


def html(answer):
    return Answer(200, HTML, {"Content-Type": "text/html"})


def html_of_the_same_length(answer):
    body = (HTML * (1 + len(answer.body) // len(HTML)))[: len(answer.body)]
    return replace(answer, body=body)


def shorter(answer):
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def longer(answer):
    return replace(answer, body=answer.body + b"x")


def other_json(value):
    return lambda answer: Answer(200, json.dumps(value).encode())


REFUSED = {f"HTTP {status}": refused(status) for status in (400, 401, 403, 404, 408, 409, 412, 418, 429, 500, 503)}
REFUSED |= {
    "404 of a repo": refused(404, "RepoNotFound"),
    "404 of a file": refused(404, "EntryNotFound"),
    "404 of a revision": refused(404, "RevisionNotFound"),
    "403 of a gated repo": refused(403, "GatedRepo"),
    "404 of a gated repo": refused(404, "GatedRepo"),
}
ALTERED = {f"HTTP {status} after it was done": refused(status) for status in (500, 502, 504)}
ALTERED |= {
    "HTML": html,
    "HTML of the same length": html_of_the_same_length,
    "half of the body": shorter,
    "a longer body": longer,
    "an empty body": lambda answer: Answer(200, b""),
    "null": other_json(None),
    "an empty list": other_json([]),
    "an empty object": other_json({}),
}
CUT = {"a connection closed before": {}, "a connection closed within the answer": {"after": True}}
RAISED = {
    "no name server": httpx.ConnectError("[Errno -2] Name or service not known"),
    "no route": httpx.ConnectError("[Errno 113] No route to host"),
    "a timeout": httpx.ReadTimeout("The read operation timed out"),
    "a timeout of connecting": httpx.ConnectTimeout("timed out"),
    "a protocol error": httpx.RemoteProtocolError("peer closed connection"),
    "a certificate": httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
}
KINDS = [*REFUSED, *ALTERED, *CUT, *RAISED]


@dataclass
class Case:
    """One call with one fault, and whether what came out is true."""

    call: str
    kind: str
    request: int
    times: int
    outcome: str
    survived: bool


@contextmanager
def world(home, fill):
    """A Hub that `fill` filled, and an empty cache."""
    import datasets

    home.mkdir()
    with pytest.MonkeyPatch.context() as patch, serve() as hub, connect(hub, home / "home", patch):
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "cache")
        fill(hub)
        yield hub
    shutil.rmtree(home)


@contextmanager
def sockets_left_open():
    """Pass over sockets that huggingface_hub does not close.

    It uploads files in threads that share one client, and closes the client where one of them fails to connect. A
    thread that was opening its connection at that moment keeps it, and Python warns whenever it collects the socket.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.freeze()  # to look through what was there before takes most of the time of a case
        try:
            yield
        finally:
            gc.collect()
            gc.unfreeze()


@contextmanager
def fault(hub, kind, request, times):
    """Let the request of that number fail, and the next `times` - 1."""
    with pytest.MonkeyPatch.context() as patch:
        if kind in REFUSED:
            hub.fail(None, "", alter=REFUSED[kind], skip=request, times=times)
        elif kind in ALTERED:
            hub.fail(None, "", alter=ALTERED[kind], after=True, skip=request, times=times)
        elif kind in CUT:
            hub.fail(None, "", skip=request, times=times, **CUT[kind])
        else:
            send, numbers = httpx.HTTPTransport.handle_request, count()

            def handle_request(self, sent):
                if request <= next(numbers) < request + times:
                    raise type(RAISED[kind])(str(RAISED[kind]), request=sent)
                return send(self, sent)

            patch.setattr(httpx.HTTPTransport, "handle_request", handle_request)
        yield
    hub.faults.clear()


def requests_of(home, fill, call):
    """The number of requests that a call makes when nothing fails."""
    with world(home, fill) as hub:
        before = len(hub.requests)
        call(hub)
        return len(hub.requests) - before


def run(home, name, fill, call, judge, kind, request, times):
    """Run one case. `judge(hub, result, error)` tells whether what came out is true."""
    with sockets_left_open(), world(home, fill) as hub:
        result = error = None
        with fault(hub, kind, request, times):
            try:
                result = call(hub)
            except Exception as caught:
                error = caught
        hub.crashes.clear()  # what a client sends after a false answer may be anything
        survived = judge(hub, result, error)
        outcome = repr(result)[:200] if error is None else f"{type(error).__name__}: {error}"[:300]
    return Case(name, kind, request, times, outcome, survived)


def is_ours(error):
    """Whether an error is of the kinds that the documentation names, in words of ours."""
    return isinstance(error, OSError | ValueError) and type(error).__module__.split(".")[0] in (
        "builtins",
        "hf_sae_select",
    )


def exit_code(*arguments):
    return cli.main(["verify", *map(str, arguments)])
