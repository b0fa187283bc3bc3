"""Pages of a store's LMCache keys, for `list_l2_keys`. LMCache is not imported."""

from __future__ import annotations

import re
from collections.abc import Iterable

from larder.lmcache.l2_keys import KeyFields, parse_key
from larder.lmcache.l2_mirror import Source

_CURSOR = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16})")
_SCAN_KEYS_MAX = 4096
_LOOKED_AT_MAX = 65536


def list_page(
    source: Source, model_name: str | None, page_size: int, cursor: str | None
) -> tuple[list[tuple[KeyFields, int]], str | None]:
    """At most `page_size` keys with their sizes, and the cursor of the next page or None.

    In order of age if the store has one. A key that exists during the whole listing is listed at
    least once. A page may be short, even empty, before the last: one call looks at 65,536 keys at
    most. Raises `ValueError` for a page size below 1 and for a cursor that no page returned.
    """
    if page_size <= 0:
        raise ValueError(f"page_size: {page_size}, wanted 1 or more")
    words = _words_of(cursor)
    entries: list[tuple[KeyFields, int]] = []
    looked_at = 0
    while len(entries) < page_size and looked_at < _LOOKED_AT_MAX:
        keys_max = min(page_size - len(entries), _SCAN_KEYS_MAX)
        page, words, is_done = source.scan(*words, keys_max)
        entries += _chosen(page, model_name)
        if is_done:
            return entries, None
        looked_at += max(len(page), 1)
    return entries, f"{words[0]:x}-{words[1]:x}"


def _words_of(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ValueError(f"cursor: {cursor!r} is not one that a page gave")
    return int(match[1], 16), int(match[2], 16)


def _chosen(
    page: Iterable[tuple[bytes, int]], model_name: str | None
) -> list[tuple[KeyFields, int]]:
    parsed = ((parse_key(name), size) for name, size in page)
    return [
        (fields, size)
        for fields, size in parsed
        if fields is not None and model_name in (None, fields.model_name)
    ]
