"""LMCache's object keys as larder stores them, byte for byte those of its `native_plugin`:

    <model>@<kv_rank, 8 hex digits>@<object group, hex>@<chunk hash, hex>[@<cache salt>]

LMCache is not imported.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple, Protocol

# Characters that ObjectKey forbids in its fields; a key that has one was not stored by LMCache.
_SALT = re.compile(r"[^@/\\\0]{1,128}")
_RANK = re.compile(r"[0-9a-f]{8}|[1-9a-f][0-9a-f]{8,15}")
_GROUP = re.compile(r"0|[1-9a-f][0-9a-f]{0,15}")
_HASH = re.compile(r"(?:[0-9a-f]{2})*")


class KeyLike(Protocol):
    """The fields of LMCache's `ObjectKey`."""

    @property
    def chunk_hash(self) -> bytes: ...
    @property
    def model_name(self) -> str: ...
    @property
    def kv_rank(self) -> int: ...
    @property
    def object_group_id(self) -> int: ...
    @property
    def cache_salt(self) -> str: ...


class KeyFields(NamedTuple):
    """In the order of `ObjectKey`'s arguments."""

    chunk_hash: bytes
    model_name: str
    kv_rank: int
    object_group_id: int
    cache_salt: str


def wire_key(key: KeyLike) -> str:
    """The name under which larder stores `key`. No two keys share one."""
    text = f"{key.model_name}@{key.kv_rank:08x}@{key.object_group_id:x}@{key.chunk_hash.hex()}"
    return f"{text}@{key.cache_salt}" if key.cache_salt else text


@functools.lru_cache(maxsize=8192)
def parse_key(name: bytes) -> KeyFields | None:
    """The fields of a stored name, or None for one that `wire_key` does not make."""
    try:
        fields = name.decode().split("@")
    except UnicodeDecodeError:
        return None
    if len(fields) not in (4, 5):
        return None
    model, rank, group, chunk_hash = fields[:4]
    salt = fields[4] if len(fields) == 5 else ""
    if len(fields) == 5 and not _SALT.fullmatch(salt):
        return None
    if not (_RANK.fullmatch(rank) and _GROUP.fullmatch(group) and _HASH.fullmatch(chunk_hash)):
        return None
    return KeyFields(bytes.fromhex(chunk_hash), model, int(rank, 16), int(group, 16), salt)
