"""One text for every form of a spec: a URL, LMCache's JSON, a dict of it, a directory."""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping
from typing import Any, Union

from larder import _larder

SpecLike = Union[str, "os.PathLike[str]", Mapping[str, Any]]

# A new log needs its capacity.
_URL = "log:/data/kv?capacity=200GiB"
_WANTED = (
    f"wanted a str such as {_URL!r}, a dict such as "
    "{'type': 'log', 'path': '/data/kv', 'capacity': '200GiB'}, or a pathlib.Path of a log's directory"
)
# A str that begins so is a directory, not a URL.
_DIRECTORY = ("/", "./", "../", "~")


class OpenTypeError(_larder.OpenError, TypeError):
    """A spec of a wrong type: an OpenError like every error of opening, and a TypeError as Python's
    convention asks."""


def text_of(spec: SpecLike | None, parameters: Mapping[str, Any], name: str = "spec") -> str:
    """The text that names a store: `spec` with `parameters` added. `name`: the argument's name.

    A str is a URL or JSON, a dict is LMCache's JSON (or has a "url", as its adapter_params), a path,
    or a str that begins as one, is the directory of a `log`. Without a spec, the parameters include
    a `type` or a `url`. None means that a parameter is not set. Raises OpenError that names the
    parameter.
    """
    if isinstance(spec, str) and not parameters and not _is_directory(spec):
        return _url(name, spec)
    kind, given = parts_of(spec, parameters, name)
    return json.dumps({"type": kind, **given}, allow_nan=False)


def parts_of(
    spec: SpecLike | None, parameters: Mapping[str, Any], name: str = "spec"
) -> tuple[str, dict[str, Any]]:
    """The type and the parameters of the same, as values of JSON."""
    given = _values(parameters)
    if isinstance(spec, os.PathLike) or (isinstance(spec, str) and _is_directory(spec)):
        path = os.path.expanduser(os.fspath(spec))
        found: dict[str, Any] = {"type": "log", "path": _value("path", path)}
    elif isinstance(spec, str):
        found = _parsed(_url(name, spec))
    elif isinstance(spec, Mapping):
        found = _merged(_values(spec), {}, name)
    elif spec is None and ("type" in given or "url" in given):
        found = {}
    elif spec is None:
        raise OpenTypeError(f"neither {name} nor type; {_WANTED}")
    else:
        raise OpenTypeError(f"{name}: {type(spec).__name__}, {_WANTED}")
    merged = _merged(found, given, name)
    kind = merged.pop("type", None)
    if not isinstance(kind, str):
        raise OpenTypeError(f"{name}: its 'type' is {_name_of(kind)}; {_WANTED}")
    return kind, merged


def replaced(value: Any, placeholder: str, text: str) -> Any:
    """A spec, or parameters, with a placeholder replaced by a text at any depth."""
    if isinstance(value, str):
        return value.replace(placeholder, text)
    if isinstance(value, Mapping):
        return {name: replaced(one, placeholder, text) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [replaced(one, placeholder, text) for one in value]
    return value


def _is_directory(spec: str) -> bool:
    return spec.startswith(_DIRECTORY) or spec in (".", "..")


def _parsed(text: str) -> dict[str, Any]:
    kind, parameters = _larder.parse_spec(text)
    return {"type": kind, **parameters}


def _merged(found: dict[str, Any], given: dict[str, Any], name: str) -> dict[str, Any]:
    """Joins both. A `url` counts as the spec when nothing else names a type."""
    twice = sorted(found.keys() & given.keys())
    if twice:
        raise OpenTypeError(
            f"{', '.join(twice)}: given in {name} and as a keyword argument; leave one out"
        )
    merged = {**found, **given}
    if "type" in merged or "url" not in merged:
        return merged
    url = merged.pop("url")
    if not isinstance(url, str):
        raise OpenTypeError(f"url: {_name_of(url)}, wanted a str such as {_URL!r}")
    return _merged(_parsed(url), merged, "url")


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    values = {}
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise OpenTypeError(f"a parameter's name is {name!r}, wanted a str")
        if value is not None:  # LMCache's own adapters take None for "not set".
            values[name] = _value(name, value)
    return values


def _value(name: str, value: Any) -> Any:
    """The JSON value of a Python value."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _text(name, value)
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        kind, parameters = parts_of(value, {}, name)
        return {"type": kind, **parameters}
    if isinstance(value, (list, tuple)):
        return [_value(name, one) for one in value]
    shown = repr(value) if isinstance(value, numbers.Real) else _name_of(value)
    raise OpenTypeError(
        f"{name}: {shown}, wanted a text, a finite number, a bool, a path, a list of these, or the "
        "dict of another spec"
    )


def _url(name: str, spec: str) -> str:
    """A URL or JSON, neither of which a word alone can be."""
    if ":" not in spec:
        raise _larder.OpenError(
            f"{name}: {spec[:80]!r} is neither a URL, such as {_URL!r}, nor a directory, which begins "
            "with '/', './' or '~'"
        )
    return _text(name, spec)


def _text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _larder.OpenError(f"{name}: the text has no UTF-8 form (a lone surrogate)") from None
    return value


def _name_of(value: object) -> str:
    return "missing" if value is None else type(value).__name__
