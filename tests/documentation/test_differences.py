"""docs/wire.md names every deliberate difference that the interop ring allows, and no other."""

import json
import re

from documented import ROOT


def test_every_difference_has_its_row():
    differences = json.loads((ROOT / "tests/interop/differences.json").read_text("utf-8"))
    page = (ROOT / "docs/wire.md").read_text("utf-8")
    table = page[page.index("| name | LMCache | here |") :].split("\n\n")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| (.+) \| (.+) \|$", table, re.MULTILINE)
    assert [name for name, *_ in rows if name != "name"] == list(differences["reasons"])
