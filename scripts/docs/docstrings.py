"""A griffe extension: docstrings as Markdown. Their `>>>` examples become blocks of code."""

import re
import sys
from pathlib import Path

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from pages import spaced

_EXAMPLE = re.compile(r"(?m)(?:^[ \t]*>>> .*\n?(?:^(?![ \t]*$).+\n?)*)+")


def as_markdown(text):
    return spaced(_EXAMPLE.sub(lambda found: f"\n```pycon\n{found[0].rstrip()}\n```\n", text))


class Docstrings(griffe.Extension):
    def on_instance(self, *, obj, **_):
        if not obj.is_alias and obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
