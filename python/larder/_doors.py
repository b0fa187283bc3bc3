"""Code that the doors into engines share."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

_TRIAL_SECONDS = 120
_TRIAL = """
import os, sys
os.environ.pop("LARDER_METRICS", None)
import larder
try:
    larder.Client(sys.stdin.read()).close()
except Exception as error:
    sys.exit(str(error))
"""


class TrialError(Exception):
    """Why a store did not open, for a person."""


def printable(text: str) -> str:
    """A text of which keys from outside are a part, in one line: they must not forge a line or drive a
    terminal."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def digest(parts: Mapping[str, Any]) -> bytes:
    """32 bytes that identify `parts`, of JSON's types, whatever the order of keys. Names of values
    are made from it: with another form no stored value would be found."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def installed(package: str, shown: str) -> str:
    """Which release of a package there is, as a part of a sentence."""
    try:
        return f"this is {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{shown} is not installed here"


def open_once(text: str) -> None:
    """Opens and closes the store of a spec in a process of its own: this process gets neither its
    threads nor its locks, and the address of LARDER_METRICS stays free for the engine. Raises
    TrialError."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            input=text,  # No argument: it may have a password.
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TrialError(f"the store did not open within {_TRIAL_SECONDS} s") from None
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        raise TrialError(lines[-1])
