"""Access tokens never leave the process: errors, logs and written files show a mask in their place."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MASK = "***"
# Tokens of the Hub: hf_..., hf_oauth_..., hf_jwt_... and api_org_.... A token begins after a character that is no
# letter or digit, also where a URL or Python escapes that character, or is too long for a name. Names such as
# hf_sae_select are none.
TOKENS = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"
    r"(?:hf(?:_|%5F)(?:oauth|jwt)(?:_|%5F)[\w.%-]{16,}|(?:hf|api_org)(?:_|%5F)[A-Za-z0-9.-]{16,}[\w.-]*)"
    r"|hf_[A-Za-z0-9]{30,}[\w.-]*",
    re.ASCII,
)
USER_INFO = re.compile(r"(?<=://)[^/?#\s'\"]+(?=@)")  # what stands before the last @ of a URL's host
SHORTEST = 8  # of a token that is known; a shorter one could be part of any word


def masked(text: str, *tokens: Any) -> str:
    """Return a text with tokens of the Hub, user information in URLs and the known `tokens` replaced by a mask."""
    for token in tokens:
        if isinstance(token, str) and len(token) >= SHORTEST:
            text = text.replace(token, MASK)
    return USER_INFO.sub(MASK, TOKENS.sub(MASK, text))


def check_no_token(name: str, text: str | None, *tokens: Any) -> None:
    """Check an argument that others will read; the error does not show it.

    Raises:
        ValueError: If it has what looks like an access token in it, or one of the known `tokens`.
    """
    if text is not None and masked(text, *tokens) != text:
        raise ValueError(
            f"`{name}` has what looks like an access token in it, for others to read: remove it, and revoke the token "
            "if it is one; pass a token as `token`"
        )


def mask_record(record: logging.LogRecord) -> bool:
    """Mask the message of a log record. It is a filter for loggers, and keeps every record."""
    record.msg, record.args = masked(record.getMessage()), ()
    return True


def masks_tokens(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a public function: its errors, and what caused them, show no token."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            from huggingface_hub import get_token

            mask_error(error, kwargs.get("token"), get_token())
            raise

    return wrapper


def mask_error(error: BaseException, *tokens: Any) -> None:
    """Mask the messages and the notes of an error, and of the errors that it came from."""
    seen: set[int] = set()
    errors: list[BaseException | None] = [error]
    while errors:
        current = errors.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.args = tuple(masked(one, *tokens) if isinstance(one, str) else one for one in current.args)
        if hasattr(current, "__notes__"):
            current.__notes__ = [masked(note, *tokens) for note in current.__notes__]
        errors += [current.__cause__, current.__context__]
