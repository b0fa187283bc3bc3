from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, Union

from typing_extensions import Buffer, TypeAlias

version: str
connector_types: tuple[str, ...]

class Error(RuntimeError): ...
class ClosedError(Error): ...
class ForkedError(Error): ...
class OpenError(Error, ValueError): ...
class StuckError(Error, TimeoutError): ...
class UnsupportedError(Error, NotImplementedError): ...

class _Seconds(Protocol):
    def __call__(
        self,
        value: float | str | None,
        name: str,
        none: float = ...,
        allows_zero: bool = False,
    ) -> float: ...

# nanobind's functions are none to mypy's stubtest.
seconds: _Seconds
"""A time-out as a number: above 0 (or 0) and at most 1e9, or its text; `none` for None. Raises
TypeError or ValueError that names the argument, the value and what was wanted."""
seconds_to_load: Callable[[int, int], float | None]
"""Seconds to load so many values of so many bytes in all from the quickest store that is open in this
process, all of them from its slowest place; None where no store knows."""
parse_spec: Callable[[str], tuple[str, dict[str, str]]]
"""The type and the parameters of a URL or JSON; what stands after "type:" has the name ""."""
metrics_text: Callable[[], str]
"""Of every store that is open in this process, in Prometheus' text format."""
shown_spec: Callable[[str], str]
"""A spec as a person may see it, without its secrets."""
run_server: Callable[[list[str]], int]
"""The command `larder server`, given the words behind the program's name; its exit code, with which
the process is to end. For `python -m larder` alone: it takes over the process's signals."""

class Addresses:
    def __init__(
        self, pointers: Iterable[int], sizes: Iterable[int] | int, owner: object
    ) -> None: ...
    def __len__(self) -> int: ...
    @property
    def bytes(self) -> int: ...

class _Tensor(Protocol):
    """The methods that are used of a torch tensor, which has no buffer protocol."""

    def data_ptr(self) -> int: ...
    def element_size(self) -> int: ...
    def is_contiguous(self) -> bool: ...
    def numel(self) -> int: ...
    def untyped_storage(self) -> Any: ...

_Piece: TypeAlias = Union[Buffer, _Tensor]
_Value: TypeAlias = Union[_Piece, Sequence[_Piece], Addresses]
"""One key's: a buffer, its pieces, or memory by address."""
_Buffers: TypeAlias = Union[Iterable[_Value], Addresses]
"""Those of a batch."""
_Urgency: TypeAlias = Literal["demand", "prefetch", "store", "background"]
_Hint: TypeAlias = Literal["prefetch", "pin", "retain", "release"]
_Drained: TypeAlias = tuple[
    int, Any, str, bytes, list[int], dict[int, tuple[str, str]], float | None
]

class BatchClient:
    def __init__(self, spec: str) -> None: ...
    def event_fd(self) -> int: ...
    def submit_get(
        self,
        keys: Iterable[str | bytes],
        buffers: _Buffers,
        allow_shorter: bool,
        timeout: float | None,
        deadline: float | None,
        urgency: _Urgency | None,
        waits_for_room: bool,
        tag: object,
    ) -> int: ...
    def submit_set(
        self,
        keys: Iterable[str | bytes],
        values: _Buffers,
        replaces: bool,
        timeout: float | None,
        deadline: float | None,
        urgency: _Urgency | None,
        waits_for_room: bool,
        tag: object,
    ) -> int: ...
    def submit_exists(
        self,
        keys: Iterable[str | bytes],
        timeout: float | None,
        deadline: float | None,
        urgency: _Urgency | None,
        waits_for_room: bool,
        tag: object,
        estimates: bool,
    ) -> int: ...
    def _submit_hint(
        self,
        keys: Iterable[str | bytes],
        hint: _Hint,
        ttl: float | None,
        timeout: float | None,
        deadline: float | None,
        urgency: _Urgency | None,
        waits_for_room: bool,
        tag: object,
    ) -> int: ...
    def _hints(self) -> list[str]: ...
    def submit_delete(
        self,
        keys: Iterable[str | bytes],
        timeout: float | None,
        deadline: float | None,
        urgency: _Urgency | None,
        waits_for_room: bool,
        tag: object,
    ) -> int: ...
    def submit_touch(
        self,
        keys: Iterable[str | bytes],
        timeout: float | None,
        deadline: float | None,
        urgency: _Urgency | None,
        waits_for_room: bool,
        tag: object,
    ) -> int: ...
    def cancel(self, id: int) -> None: ...
    def probe(self, keys: Iterable[str | bytes]) -> list[int | None] | None: ...
    def drain(self) -> list[_Drained]: ...
    def events(
        self, position: int, events_max: int
    ) -> tuple[list[tuple[bool, bytes, int]], int, int] | None: ...
    def _scan_page(
        self, first_word: int, second_word: int, keys_max: int, prefix: str | bytes
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]: ...
    def _delete_page(
        self,
        first_word: int,
        second_word: int,
        keys_max: int,
        prefix: str | bytes,
        timeout: float | None,
    ) -> tuple[int, int, str | None, tuple[int, int], bool]: ...
    def report(self) -> dict[str, Any]: ...
    def close(self, grace: float | None, timeout: float | None) -> None: ...
    @property
    def closed(self) -> bool: ...

class Client:
    def __init__(self, spec: str) -> None: ...
    def get_into(
        self,
        keys: Iterable[str | bytes],
        buffers: _Buffers,
        urgency: _Urgency | None,
        timeout: float | None,
    ) -> tuple[list[bool], list[bool], list[int], list[str | None]]: ...
    def get(self, key: str | bytes, timeout: float | None) -> bytes | None: ...
    def set(
        self, key: str | bytes, value: _Value, replaces: bool, timeout: float | None
    ) -> tuple[list[bool], list[bool], list[bool], list[str | None]]: ...
    def set_many(
        self,
        keys: Iterable[str | bytes],
        values: _Buffers,
        replaces: bool,
        urgency: _Urgency | None,
        timeout: float | None,
    ) -> tuple[list[bool], list[bool], list[bool], list[str | None]]: ...
    def sizes(self, keys: Iterable[str | bytes], timeout: float | None) -> list[int | None]: ...
    def look_up(
        self, keys: Iterable[str | bytes], timeout: float | None
    ) -> tuple[list[bool], list[bool], list[int], list[str | None], float | None]: ...
    def hint(
        self, keys: Iterable[str | bytes], hint: _Hint, ttl: float | None, timeout: float | None
    ) -> tuple[list[bool], list[bool], list[str | None], str | None]: ...
    def _hints(self) -> list[str]: ...
    def exists(self, keys: Iterable[str | bytes], timeout: float | None) -> list[bool]: ...
    def delete(
        self, keys: Iterable[str | bytes], timeout: float | None
    ) -> tuple[list[bool], list[str | None]]: ...
    def _scan_page(
        self, first_word: int, second_word: int, keys_max: int, prefix: str | bytes
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]: ...
    def _delete_page(
        self,
        first_word: int,
        second_word: int,
        keys_max: int,
        prefix: str | bytes,
        timeout: float | None,
    ) -> tuple[int, int, str | None, tuple[int, int], bool]: ...
    def report(self) -> dict[str, Any]: ...
    def close(self, timeout: float | None) -> None: ...
    @property
    def closed(self) -> bool: ...

class Completions:
    def __init__(
        self,
        spec: str,
        load_timeout: float | str | None,
        store_timeout: float | str | None,
        lookup_timeout: float | str | None,
    ) -> None: ...
    def event_fd(self) -> int: ...
    def submit_batch_get(
        self, keys: Iterable[str | bytes], memoryviews: _Buffers, id: int | None = None
    ) -> int: ...
    def submit_batch_set(
        self, keys: Iterable[str | bytes], memoryviews: _Buffers, id: int | None = None
    ) -> int: ...
    def submit_batch_exists(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int: ...
    def submit_batch_delete(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int: ...
    def drain_completions(self) -> list[tuple[int, bool, str, list[Any] | None]]: ...
    def submit_batch_sizes(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int: ...
    def submit_batch_touch(
        self, keys: Iterable[str | bytes], id: int | None = None
    ) -> int: ...
    def cancel(self, id: int) -> None: ...
    def drain(self) -> list[_Drained]: ...
    def events(
        self, position: int, events_max: int
    ) -> tuple[list[tuple[bool, bytes, int]], int, int] | None: ...
    def _scan_page(
        self, first_word: int, second_word: int, keys_max: int, prefix: str | bytes
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]: ...
    def _delete_page(
        self,
        first_word: int,
        second_word: int,
        keys_max: int,
        prefix: str | bytes,
        timeout: float | None,
    ) -> tuple[int, int, str | None, tuple[int, int], bool]: ...
    def report(self) -> dict[str, Any]: ...
    def close(self, grace: float | None, timeout: float | None) -> None: ...
    @property
    def closed(self) -> bool: ...

class AsyncClient:
    def __init__(self, spec: str) -> None: ...
    def event_fd(self) -> int: ...
    def submit_get_into(
        self,
        id: int,
        keys: Iterable[str | bytes],
        buffers: _Buffers,
        urgency: _Urgency | None,
        timeout: float | None,
    ) -> Any: ...
    def submit_get(self, id: int, key: str | bytes, room: int, timeout: float | None) -> Any: ...
    def submit_set(
        self, id: int, key: str | bytes, value: _Value, replaces: bool, timeout: float | None
    ) -> Any: ...
    def submit_set_many(
        self,
        id: int,
        keys: Iterable[str | bytes],
        values: _Buffers,
        replaces: bool,
        urgency: _Urgency | None,
        timeout: float | None,
    ) -> Any: ...
    def submit_size(self, id: int, key: str | bytes, timeout: float | None) -> Any: ...
    def submit_sizes(
        self, id: int, keys: Iterable[str | bytes], timeout: float | None
    ) -> Any: ...
    def submit_exists(
        self, id: int, keys: Iterable[str | bytes], timeout: float | None
    ) -> Any: ...
    def submit_look_up(
        self, id: int, keys: Iterable[str | bytes], timeout: float | None
    ) -> Any: ...
    def submit_hint(
        self,
        id: int,
        keys: Iterable[str | bytes],
        hint: _Hint,
        ttl: float | None,
        timeout: float | None,
    ) -> Any: ...
    def _hints(self) -> list[str]: ...
    def submit_delete(
        self, id: int, keys: Iterable[str | bytes], timeout: float | None
    ) -> Any: ...
    def cancel(self, id: int) -> None: ...
    def drain(self) -> list[tuple[int, Any]]: ...
    def _scan_page(
        self, first_word: int, second_word: int, keys_max: int, prefix: str | bytes
    ) -> tuple[list[tuple[bytes, int]], tuple[int, int], bool]: ...
    def _delete_page(
        self,
        first_word: int,
        second_word: int,
        keys_max: int,
        prefix: str | bytes,
        timeout: float | None,
    ) -> tuple[int, int, str | None, tuple[int, int], bool]: ...
    def report(self) -> dict[str, Any]: ...
    def close(self, grace: float | None, timeout: float | None) -> None: ...
    @property
    def closed(self) -> bool: ...

class KeyAccounts:
    def __init__(self) -> None: ...
    def apply(
        self, happened: Iterable[tuple[bool, bytes, int]]
    ) -> list[tuple[bool, list[bytes], list[int]]]: ...
    def begin_scan(self) -> None: ...
    def give_up_scan(self) -> None: ...
    def scanned(
        self, page: Iterable[tuple[bytes, int]]
    ) -> list[tuple[bool, list[bytes], list[int]]]: ...
    def end_scan(self) -> list[tuple[bool, list[bytes], list[int]]]: ...
    def items(self) -> list[tuple[bytes, int]]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: bytes) -> bool: ...
    @property
    def bytes_used(self) -> int: ...
    @property
    def foreign_keys(self) -> int: ...
    @property
    def foreign_bytes(self) -> int: ...
