"""Name the features of an SAE by a language model behind an OpenAI-compatible endpoint.

    OPENAI_API_KEY=... python examples/name_features.py texts.parquet labels.parquet --url https://HOST/v1 --model NAME

Local servers such as vLLM, llama.cpp and Ollama have such an endpoint too; they need no key. The endpoint gets the
strongest texts of each feature. The key goes to the endpoint alone: it is neither written nor shown in an error.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from datasets import load_dataset

from hf_sae_select import label_features

MOST_BYTES = 2**20  # of an answer


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the key would go along."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Endpoint:
    """Ask a chat model for one answer per prompt."""

    def __init__(self, url: str, model: str, key: str | None = None, timeout: float = 60) -> None:
        self.url, self.model, self.timeout = f"{url.rstrip('/')}/chat/completions", model, timeout
        self._key = key
        self._opener = urllib.request.build_opener(NoRedirects)

    def __call__(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": 40}
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {self._key}"} if self._key else {}
        )
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                answer = json.loads(response.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            raise
        return str(answer["choices"][0]["message"]["content"])


def main() -> None:
    args = arguments()
    dataset = load_dataset("parquet", data_files=str(args.texts), split="train")
    endpoint = Endpoint(args.url, args.model, os.environ.get("OPENAI_API_KEY"))
    labels = label_features(dataset, args.sae, rows=args.rows, labeller=endpoint)
    labels.save(args.labels)
    print(labels, labels.metadata["labeller"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, help="a Parquet file of texts")
    parser.add_argument("labels", type=Path, help="the file to write")
    parser.add_argument("--url", required=True, help="the endpoint, up to /v1")
    parser.add_argument("--model", required=True, help="the name of the model there")
    parser.add_argument("--sae", help="a folder or a Hub repo (default: the packaged SAE)")
    parser.add_argument("--rows", type=int, default=20_000, help="rows to read at most (default: 20,000)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
