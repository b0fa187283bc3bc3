"""What the pages of docs/ tell a reader to type, for the tests that do it."""

import json
import pathlib
import re
import shlex
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "documentation"))
from documented import blocks_of_markdown, commands_of_markdown  # noqa: E402


def commands_of(page, pattern):
    """The words of each command of docs/`page` in which a pattern is found."""
    found = [
        shlex.split(command.text, comments=True)
        for command in commands_of_markdown(ROOT / "docs" / page)
        if re.search(pattern, command.text)
    ]
    assert found, f"docs/{page}: no command with {pattern}"
    return found


def option_of(words, option):
    """The JSON of a command's option."""
    return json.loads(words[words.index(option) + 1])


def variable_of(words, name):
    """The value of a variable that stands before a command."""
    (value,) = [word.partition("=")[2] for word in words if word.startswith(f"{name}=")]
    return value


def block_of(page, language):
    """The first block of docs/`page` in a language."""
    return blocks_of_markdown(ROOT / "docs" / page, language)[0].text


def replaced(documented, changes):
    """A documented text or JSON in which each key of `changes` has its value in its place: the
    directories and sizes of the test. All of them occur."""
    text = documented if isinstance(documented, str) else json.dumps(documented)
    for written, ours in changes.items():
        assert written in text, f"{written} is not in {text}"
        text = text.replace(written, ours)
    return text if isinstance(documented, str) else json.loads(text)
