"""Storage backends written in Python, which larder uses like its own.

>>> import larder
>>> from larder.connectors import PythonConnector
>>> class Dictionary(PythonConnector):
...     def __init__(self):
...         self.values = {}
...     def get_into(self, key, buffer):
...         value = self.values.get(key)
...         if value is not None and len(value) <= len(buffer):
...             buffer[: len(value)] = value
...         return None if value is None else len(value)
...     def set(self, key, data):
...         self.values[key] = bytes(data)
...     def size(self, key):
...         return len(self.values[key]) if key in self.values else None
...     def delete(self, key):
...         return self.values.pop(key, None) is not None
>>> larder.connectors.register("dictionary", Dictionary)
>>> with larder.open("dictionary:") as store:
...     store.set_many(["a"], [b"one"]).stored, store.get("a")
([True], b'one')

docs/python.md says how a package adds one, and which thread makes which call.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import pkgutil
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["PythonConnector", "register"]

GROUP = "larder.connectors"
"""The entry point group: name = "package.module:Class"."""
PACKAGE = "larder_connectors"
"""The namespace package: a module `larder_connectors/NAME.py` with an attribute `Connector` is the
type NAME."""

_TYPE_NAME = re.compile(r"[a-z][a-z0-9_-]*")


class PythonConnector:
    """Keeps values under keys; override the four methods, and the optional ones that you have.

    Keys are `bytes`, 1 to 1024 of them, any. Threads: `num_workers` threads each for lookups
    (`size`, `touch`), loads (`get_into`) and stores (`set`, `delete`) call the object, and live as
    long as the store is open, so that `threading.local` holds connections; they are dropped after a
    `ConnectionError` or `TimeoutError`. Two calls for one key never overlap when one of them
    changes it. An exception is that key's failure, with its type and text; so is a result of
    another type.

    Buffers are larder's own memory, lent for the call: copy what you keep (`bytes(data)`). A view
    that is kept is detected and fails the key. The memoryview itself raises `ValueError`
    afterwards; objects made from it (a slice, an array) keep valid memory that nothing else uses.

    Optional methods, which are used where they exist:
    - `scan(cursor: int, limit: int) -> tuple[list[tuple[bytes, int]], int | None]`: at most `limit`
      keys with their sizes from `cursor` on (0 begins), and where to go on (None: the end). A key
      that is there during the whole scan must be seen.
    - `usage() -> tuple[int, int]`: keys and bytes, for `report()`; without I/O, from any thread.
    - `touch(key: bytes) -> bool`: marks a key as used; whether it is there. Otherwise `size` is
      called.
    """

    num_workers: int = 4
    """Threads for lookups, loads and stores each, 1 to 256."""
    batches_max: int = 4096
    """Batches accepted and not yet finished, for lookups, loads and stores each."""
    in_flight_bytes: int = 4 << 30
    """Value bytes accepted and not yet finished, for loads and stores each."""
    value_bytes_max: int = 1 << 30
    """The largest value, at most 1 GiB."""
    capacity_bytes: int = 0
    """What the report shows as capacity; 0: not bounded."""
    survives_restart: bool = False
    """Whether what was stored is there again when the store is opened anew."""
    locality: str = "local_disk"
    """Where the values are: memory, local_disk, shared_files, remote or other_process."""

    def get_into(self, key: bytes, buffer: memoryview) -> int | None:
        """Loads a value into `buffer` (writable bytes) and returns the value's size.

        None: the key has no value, and the buffer is unchanged. A value that is larger than the
        buffer is not copied; its size is returned all the same.
        """
        raise NotImplementedError

    def set(self, key: bytes, data: memoryview) -> None:
        """Stores a value (read-only bytes), in place of an existing one. No reader may see a part
        of it, also after a crash."""
        raise NotImplementedError

    def size(self, key: bytes) -> int | None:
        """The value's size in bytes, or None."""
        raise NotImplementedError

    def delete(self, key: bytes) -> bool:
        """Removes a key; whether it was there."""
        raise NotImplementedError

    def close(self) -> None:
        """Called once, after every other call has returned, in a thread of its own."""


Factory = Callable[..., Any]

_NO_L2_ADAPTER = (
    "this class implements LMCache's L2AdapterInterface, which only LMCache's own server can drive. "
    "Name a class with the four methods of larder.connectors.PythonConnector, or one with LMCache's "
    "native contract (submit_batch_get and the others), as its native_plugin takes"
)

_lock = threading.RLock()
_registered: dict[str, Factory] = {}
_entry_points: dict[str, list[importlib.metadata.EntryPoint]] | None = None


def register(name: str, factory: Factory) -> None:
    """Makes `larder.open("name:...")` call `factory`, for this process.

    `factory` gets the spec's parameters as keyword arguments, as text, and the text between `name:`
    and `?` as `location`; it returns a `PythonConnector`, or an object with LMCache's native
    contract. Raises ValueError for a name that is taken or illegal.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: {type(name).__name__}, wanted a str")
    if not callable(factory):
        raise TypeError(f"factory: {type(factory).__name__}, wanted a class or another callable")
    if not _TYPE_NAME.fullmatch(name):
        raise ValueError(f"name: {name!r}, wanted lower-case letters, digits, '_' and '-'")
    if name in _builtin_names():
        raise ValueError(f"name: {name!r} is one of larder's own connectors; choose another")
    with _lock:
        if name in _registered:
            raise ValueError(f"name: {name!r} is registered already, with {_registered[name]!r}")
        _registered[name] = factory


def unregister(name: str) -> None:
    """Undoes `register`; stores that are open stay open."""
    with _lock:
        _registered.pop(name, None)


def _builtin_names() -> tuple[str, ...]:
    from larder import _larder

    return _larder.connector_types


# --- What installed packages bring ----------------------------------------------------------------


def _load_entry_points() -> dict[str, list[importlib.metadata.EntryPoint]]:
    """By name, looked up once. Warns about those that can never be used."""
    global _entry_points
    with _lock:
        if _entry_points is None:
            found: dict[str, list[importlib.metadata.EntryPoint]] = {}
            for entry in importlib.metadata.entry_points(group=GROUP):
                same = found.setdefault(entry.name, [])
                if entry.value not in [other.value for other in same]:
                    same.append(entry)
            _entry_points = found
            _warn_of_unusable([*found, *_dropped_in()])
        return _entry_points


def _warn_of_unusable(names: list[str]) -> None:
    builtin = _builtin_names()
    for name in names:
        if name in builtin:
            why = "larder has a connector of that name"
        elif not _TYPE_NAME.fullmatch(name):
            why = "a type's name has lower-case letters, digits, '_' and '-'"
        else:
            continue
        warnings.warn(
            f"a Python package brings a connector named {name!r}, which is not used: {why}. The "
            "package must give it another name",
            RuntimeWarning,
            stacklevel=2,
        )


def _dropped_in() -> list[str]:
    """The modules of the namespace package, none of which is imported."""
    try:
        package = importlib.import_module(PACKAGE)
    except ModuleNotFoundError:
        return []
    return [module.name for module in pkgutil.iter_modules(package.__path__)]


def _is_dropped_in(name: str) -> bool:
    importlib.invalidate_caches()  # It may have been put there a moment ago.
    return name.replace("-", "_") in _dropped_in()


# --- What the module asks -------------------------------------------------------------------------


def _is_known(name: str) -> bool:
    with _lock:
        return name in _registered or name in _load_entry_points() or _is_dropped_in(name)


def _names() -> str:
    """Every usable name, for an error's text."""
    builtin = _builtin_names()
    with _lock:
        names = {*_registered, *_load_entry_points(), *_dropped_in()}
    return ", ".join(sorted(names.difference(builtin)))


def _make(name: str, factory: str, arguments: str) -> Any:
    """The object of a spec: `name` is its type, `factory` the class that `python:` names, else
    empty.

    Raises ValueError with a complete text.
    """
    given = json.loads(arguments)
    del given["type"]
    if "" in given:
        given["location"] = given.pop("")
    shown = f"{name}:{factory}"
    try:
        made = _import_factory(factory) if factory else _factory_of(name)
    except Exception as error:
        raise ValueError(f"{shown}: {_text_of(error)}") from error
    if hasattr(made, "submit_lookup_and_lock_task"):
        raise ValueError(f"{shown}: {_NO_L2_ADAPTER}")
    try:
        return made(**given)
    except Exception as error:
        raise ValueError(f"{shown}: its constructor raised {_text_of(error)}") from error


def _text_of(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        text += "; install it, or add its folder to PYTHONPATH"
    return text


def _import_factory(factory: str) -> Factory:
    module_name, colon, path = factory.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"{factory!r} is no class; wanted package.module:Class")
    found: Any = importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    return _callable(found)


def _callable(found: Any) -> Factory:
    if not callable(found):
        raise TypeError(f"{found!r} is not a class or another callable")
    factory: Factory = found
    return factory


def _factory_of(name: str) -> Factory:
    with _lock:
        if name in _registered:
            return _registered[name]
        entries = _load_entry_points().get(name, [])
    if len(entries) > 1:
        known = " and ".join(sorted(entry.value for entry in entries))
        raise ValueError(
            f"several packages bring this name ({known}); name the class, as in "
            "python:package.module:Class"
        )
    if entries:
        return _callable(entries[0].load())
    module = importlib.import_module(f"{PACKAGE}.{name.replace('-', '_')}")
    return _callable(module.Connector)
