"""The example of a labeller, against an endpoint on localhost: the key goes there and nowhere else."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from datasets import Dataset
from helpers.wordy import wordy_sae

from hf_sae_select import Labels

sys.path.append(str(Path(__file__).parents[2] / "examples"))
import name_features

KEY = "sk-SecretSecretSecret"
TEXTS = [f"the {subject} {verb}" for subject in ("cat", "dog", "moon") for verb in ("sat", "ran", "flew")] * 4


@pytest.fixture
def endpoint(request):
    """An endpoint that keeps what it was asked, and answers as `answer` says."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        answer = staticmethod(lambda prompt: "Felines")

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, self.headers["Authorization"], body))
            answer = self.answer(body["messages"][0]["content"])
            if isinstance(answer, int):
                self.send_response(answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": answer}}]}).encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Handler.url, Handler.requests = f"http://127.0.0.1:{server.server_port}/v1", requests
    yield Handler
    server.shutdown()
    thread.join()
    server.server_close()


def run(monkeypatch, tmp_path, bert, url):
    wordy_sae(bert).save_pretrained(tmp_path / "sae")
    Dataset.from_dict({"text": TEXTS}).to_parquet(tmp_path / "texts.parquet")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    options = ["--url", url, "--model", "small", "--sae", str(tmp_path / "sae")]
    arguments = ["name_features.py", str(tmp_path / "texts.parquet"), str(tmp_path / "labels.parquet"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    name_features.main()
    return Labels.load(tmp_path / "labels.parquet")


def test_an_endpoint_names_features(endpoint, monkeypatch, tmp_path, bert, capsys):
    labels = run(monkeypatch, tmp_path, bert, endpoint.url)
    assert labels.name(0) == "Felines" and labels[0].words == ("cat",)
    path, authorization, body = endpoint.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body["model"] == "small" and ">>cat<<" in body["messages"][0]["content"]
    assert KEY.encode() not in (tmp_path / "labels.parquet").read_bytes() and KEY not in "".join(capsys.readouterr())


@pytest.mark.parametrize("status", [302, 401, 500])
def test_failures_are_counted_and_no_redirect_gets_the_key(endpoint, monkeypatch, tmp_path, bert, status):
    endpoint.answer = staticmethod(lambda prompt: status if "cat" in prompt.split("Words")[1] else "Others")
    with pytest.warns(UserWarning, match=r"`labeller` failed for 1 \(first by HTTPError\)") as caught:
        labels = run(monkeypatch, tmp_path, bert, endpoint.url)
    assert labels.name(0) == "cat" and labels.name(3) == "Others"
    assert not [path for path, *_ in endpoint.requests if "elsewhere" in path] and KEY not in str(caught[0].message)
