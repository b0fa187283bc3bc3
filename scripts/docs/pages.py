"""Markdown as GitHub reads it, for Python-Markdown, which is stricter."""

import re

_LIST_ITEM = re.compile(r"\s*([-*+]|\d+\.)\s")
_FENCE = re.compile(r"\s*(```|~~~)")


def outside_fences(text):
    """(line, whether it is text and not code) for each line."""
    fence = None
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if fence is None and found:
            fence = found[1]
            yield line, False
        elif fence is not None:
            if found and found[1] == fence:
                fence = None
            yield line, False
        else:
            yield line, True


def spaced(text):
    """`text` with an empty line before each list and table that follows a paragraph directly, with
    lists nested by four spaces where GitHub is content with two, and with `a[:b][/c]` as it is."""
    lines = []
    in_list = False  # An item came, and no paragraph outside it since.
    in_block = False  # An item came since the last empty line.
    for line, is_text in outside_fences(text):
        previous = lines[-1] if lines else ""
        is_item = bool(is_text and _LIST_ITEM.match(line))
        is_row = bool(is_text and line.startswith("|"))
        if is_text and not line.startswith((" ", "|")) and not is_item and not previous.strip():
            in_list = in_list and not line.strip()
        if is_item and in_list and re.match("  ? ?[^ ]", line):
            line = "  " + line
        if previous.strip() and (
            (is_item and not in_block) or (is_row and not previous.startswith("|"))
        ):
            lines.append("")
        in_list = in_list or is_item
        in_block = (in_block or is_item) and is_text and bool(line.strip())
        # No page has links by reference, as which mkdocstrings would take it.
        lines.append(re.sub(r"\]\[", r"]\\[", line) if is_text else line)
    return "\n".join(lines)
