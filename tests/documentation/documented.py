"""Finds the commands in the documentation, in the help texts and in quickstart.sh."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The languages that a fenced block may have. In one of SHELL every line is a command, or, where lines
# begin with "$ ", those are, and the rest is what they print.
SHELL = {"", "bash", "sh", "console"}
OTHERS = {"json", "python", "spec", "text", "yaml"}


@dataclass(frozen=True)
class Command:
    """One command as a reader would paste it."""

    text: str
    source: str  # "README.md:12"

    def __str__(self):
        return f"{self.source} {self.text.splitlines()[0][:80]}"

    @property
    def folder(self):
        """Where a reader pastes it: beside the page of an example, else at the root."""
        folder = Path(self.source).parent
        return folder if folder.parts[:1] == ("examples",) else Path()


def is_whole(text):
    """Whether quotes and continuations are closed."""
    if text.endswith("\\"):
        return False
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    source: str  # "README.md:12": its first line.
    text: str

    def __str__(self):
        return self.source


def fenced(path):
    """(number, line, None) for each line of text of a page, (number, "", block) for each block."""
    source = str(path.relative_to(ROOT))
    language = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = re.match(r"\s*```(.*)", line)
        if fence and language is None:
            language, first, lines = fence[1].strip(), number + 1, []
            if language not in SHELL | OTHERS:
                raise ValueError(f"{source}:{number}: a block is one of {sorted(SHELL | OTHERS)}")
        elif fence:
            text = textwrap.dedent("\n".join(lines)) + "\n"
            yield first, "", Block(language, f"{source}:{first}", text)
            language = None
        elif language is not None:
            lines.append(line)
        else:
            yield number, line, None
    if language is not None:
        raise ValueError(f"{source}:{first}: the block has no end")


def blocks_of_markdown(path, language):
    return [block for _, _, block in fenced(path) if block and block.language == language]


def commands_of_block(block):
    """Every line is the begin of a command or the rest of one; with "$ " there is output too."""
    page, first = block.source.rsplit(":", 1)
    lines = block.text.splitlines()
    has_prompt = any(line.startswith("$ ") for line in lines)
    at = 0
    while at < len(lines):
        line = lines[at]
        number = int(first) + at
        at += 1
        if has_prompt and not line.startswith("$ "):
            continue
        text = line.removeprefix("$ ")
        while not is_whole(text) and at < len(lines):
            text += "\n" + lines[at]
            at += 1
        if text.strip() and not text.startswith("#"):
            yield Command(text.strip(), f"{page}:{number}")


def commands_of_markdown(path):
    """The commands of the blocks of a page, and the whole ones within its text."""
    source = str(path.relative_to(ROOT))
    for number, line, block in fenced(path):
        if block and block.language in SHELL:
            yield from commands_of_block(block)
        for inline in re.findall(r"(?<!`)`((?:larder|source|rm|cp|ln|install) [^`]+)`", line):
            yield Command(inline, f"{source}:{number}")


def commands_of_help(command, help_text):
    """The examples of `larder COMMAND --help`: every line that is indented below "Examples:"."""
    examples = re.search(r"^Examples:\n((?:  .*(?:\n|\Z))+)", help_text, re.MULTILINE)
    for line in examples[1].splitlines() if examples else []:
        yield Command(line.strip(), f"larder {command} --help")


def commands_of_quickstart(values):
    """What quickstart.sh says to try next, with `values` for its variables."""
    text = (ROOT / "quickstart.sh").read_text()
    closing = re.search(r"^cat <<EOF\n(.*)^EOF", text, re.DOTALL | re.MULTILINE)[1]
    for line in closing.splitlines():
        if not line.startswith("  "):
            continue
        line = re.sub(r"\$(\w+)", lambda name: values[name[1]], line)
        yield Command(line.strip(), "quickstart.sh")


def pages():
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "examples").rglob("README.md")),
    ]
