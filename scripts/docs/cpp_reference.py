"""Pages of reference for C++ headers: each declaration with the comment that stands before it.

Reads larder's own headers, whose layout clang-format decides; it is no parser of C++. A class or a
free function without a comment is an error, and so the reference has no holes.
"""

import re
from dataclasses import dataclass, field

_NAMESPACE = re.compile(r"^(inline )?namespace [\w:]*\s*{$|^}  // namespace")
_SKIPPED = re.compile(r"^(#|static_assert|$)|^(class|struct|enum class) \w+;$|^// ")
_ACCESS = re.compile(r"^ (public|protected|private):$")
_NAMES = [
    re.compile(r"^(?:class|struct|enum class|concept)(?: alignas\(\d+\))? (\w+)"),
    re.compile(r"^using (\w+) ="),
    re.compile(r"(?:^|[ &*])(operator\S+|\w+)\("),
    re.compile(r"(\w+)(?:\[\])?\s*(?:=|{|;)"),
]


class Undocumented(Exception):
    """A declaration has no comment."""


@dataclass
class Declaration:
    name: str
    kind: str  # "class", "function" or "other".
    line: int
    comment: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def _balance(line):
    bare = re.sub(r'"(\\.|[^"\\])*"|//.*', "", line)
    return sum(bare.count(c) for c in "({[") - sum(bare.count(c) for c in ")}]")


def _name_of(code):
    text = re.sub(r"^template <.*?>\n", "", code, flags=re.DOTALL)
    text = re.sub(r"\b(inline|constexpr|static|const|extern|explicit) ", "", text)
    for pattern in _NAMES:
        found = pattern.search(text)
        if found:
            return found[1]
    raise ValueError(f"what is declared here has no name that this script finds: {code}")


def _kind_of(code):
    text = re.sub(r"^template <.*?>\n", "", code, flags=re.DOTALL)
    if re.match(r"(class|struct) ", text):
        return "class"
    head = text.split("{")[0].split("=")[0]
    return "function" if "(" in head and not head.startswith(("concept", "using", "enum")) else "other"


def _without_private(lines):
    """The lines of a class, without what only it may use and without the bodies of functions."""
    kept, is_shown = [], True
    for line in lines:
        access = _ACCESS.match(line)
        if access:
            is_shown = access[1] != "private"
            if not is_shown:
                continue
        if is_shown or line == "};":
            kept.append(line)
    while len(kept) > 2 and not kept[-2].strip():
        del kept[-2]
    return kept


def declarations(text):
    lines = text.split("\n")
    comment, at, is_detail = [], 0, False
    while at < len(lines):
        line = lines[at]
        if re.match(r"^namespace (detail|internal)\b", line):
            is_detail = True
        elif line.startswith("}  // namespace"):
            is_detail = False
        if line.startswith("///"):
            comment.append(line[3:].removeprefix(" "))
            at += 1
            continue
        if _NAMESPACE.match(line) or _SKIPPED.match(line) or is_detail:
            if not line.startswith("//"):
                comment = []
            if line.startswith("#define"):
                while lines[at].endswith("\\"):
                    at += 1
            at += 1
            continue
        first, depth, code = at + 1, 0, []
        while at < len(lines):
            code.append(lines[at])
            depth += _balance(lines[at])
            ends = re.sub(r"\s*//.*", "", lines[at]).endswith((";", "}"))
            at += 1
            if depth == 0 and ends:
                break
        whole = "\n".join(code)
        kind = _kind_of(whole)
        if kind == "class":
            code = _without_private(code)
        elif kind == "function" and "{" in whole:
            code = [whole[: whole.index("{")].rstrip() + ";"]
        yield Declaration(_name_of(whole), kind, first, comment, code)
        comment = []


def prose(comment):
    """A comment as Markdown. What hangs (an item's lines behind its first are indented) is a list."""
    paragraphs, lines = [], []
    for line in [*comment, ""]:
        if line.strip():
            lines.append(line)
        elif lines:
            paragraphs.append(lines)
            lines = []
    out = []
    for lines in paragraphs:
        if all(line.startswith("  ") for line in lines):
            out += ["```cpp", *[line[2:] for line in lines], "```", ""]
            continue
        if any(line.startswith("  ") for line in lines):
            is_item = False
            for line, following in zip(lines, [*lines[1:], ""]):
                label = re.match(r"([A-Z]\w* ?\w*:|[A-Z]\d+(?= ))\s*(.*)", line)
                if line.startswith("  "):
                    out.append("    " + _escaped(line.strip()))
                elif label or following.startswith("  "):
                    out.append(f"- **{label[1]}** {_escaped(label[2])}" if label else f"- {_escaped(line)}")
                    is_item = True
                else:
                    out += ["", _escaped(line)] if is_item else [_escaped(line)]
                    is_item = False
        else:
            out += [_escaped(line) for line in lines]
        out.append("")
    return out


def _escaped(text):
    """Names of C++ as code, so that Markdown reads nothing into them."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(
        part
        if part.startswith("`")
        else re.sub(r"\b(\w*::[\w:]+(?:\(\))?|\w+\(\)|k[A-Z]\w+|\w+_\w+)", r"`\1`", part)
        .replace("<", "&lt;")
        .replace("*", r"\*")
        for part in parts
    )


def page(header, text):
    """The page of one header; `header` is how it is included."""
    found = list(declarations(text))
    missing = [
        f"{header}:{one.line}: {one.name} has no comment"
        for one in found
        if one.kind in ("class", "function") and not one.comment and not _is_overload(one, found)
    ]
    if missing:
        raise Undocumented("\n".join(missing))
    # What the header is named after comes first.
    stem = header.rsplit("/", 1)[-1].removesuffix(".h").replace("_", "")
    found.sort(key=lambda one: one.kind != "class" or one.name.lower() != stem)
    out = [f"# {header.rsplit('/', 1)[-1]}", "", "```cpp", f'#include "{header}"', "```", ""]
    seen = set()
    for one in found:
        if not one.comment and out[-2] == "```" and seen:
            # It belongs to what stands above it.
            out[-2:] = [*one.code, "```", ""]
            continue
        if one.name not in seen:
            out += [f"## {one.name}", ""]
        seen.add(one.name)
        out += [*prose(one.comment), "```cpp", *one.code, "```", ""]
    return "\n".join(out)


def _is_overload(one, found):
    return any(other.name == one.name and other.comment for other in found)
