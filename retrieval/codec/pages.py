"""Listings in pages, and the size of answers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence

from google.protobuf.message import Message

from serving.errors import InvalidInput, Violation

MAX_TOKEN_CHARS = 512  # ours are shorter; a long one could nest deeper than a parser can follow
MAX_RESPONSE_BYTES = 4 * 1024 * 1024 - 65536  # messages of 4 MiB are refused by clients of many languages
MAX_LIST_BYTES = 3 * 1024 * 1024


def page_size(wanted: int) -> int:
    """Entries of one page of a listing: 100 unless told otherwise, at most 1000."""
    return min(wanted or 100, 1000)


def encode_token(kind: str, scope: Message | str, after: str) -> str:
    """The token that continues the listing `kind` of `scope` behind `after`."""
    text = json.dumps([kind, _digest(scope), after], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, kind: str, scope: Message | str, pattern: str = r"(?s:.*)") -> str:
    """Behind what to continue; "" from the beginning.

    Args:
        token: what the caller sent, which need not come from here.
        kind: of the listing.
        scope: of the listing.
        pattern: what an entry of it looks like, where the listing cannot take anything else.

    Raises:
        InvalidInput: BAD_PAGE_TOKEN, it is no token, or one of another listing.
    """
    if not token:
        return ""
    try:
        text = token.encode() if len(token) <= MAX_TOKEN_CHARS else b""
        fields = json.loads(base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        fields = None
    match fields:
        case [str(found), str(digest), str(after)] if (
            found == kind and digest == _digest(scope) and re.fullmatch(pattern, after)
        ):
            return after
        case _:
            says = "must be the next_page_token of the same listing"
            raise InvalidInput(
                f"page_token: {says}", reason="BAD_PAGE_TOKEN", violations=[Violation("page_token", says)]
            )


def _digest(scope: Message | str) -> str:
    data = scope.encode() if isinstance(scope, str) else scope.SerializeToString(deterministic=True)
    return hashlib.sha256(data).hexdigest()[:16]


def check_size(message: Message, advice: str = "ask for fewer hits") -> None:
    """Returns if `message` is small enough to be sent.

    Raises:
        InvalidInput: RESPONSE_TOO_LARGE, ask for less.
    """
    size = message.ByteSize()
    if size > MAX_RESPONSE_BYTES:
        raise InvalidInput(
            f"the answer must fit in {MAX_RESPONSE_BYTES} bytes, got {size}; {advice}",
            reason="RESPONSE_TOO_LARGE",
        )


def fitting(messages: Sequence[Message]) -> int:
    """How many of the first messages fit in one answer; at least 1 if there is one."""
    total = 0
    for count, message in enumerate(messages):
        total += message.ByteSize() + 8
        if total > MAX_LIST_BYTES and count:
            return count
    return len(messages)
