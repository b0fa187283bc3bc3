"""The examples for LMCache do what they say."""

import json
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
def test_the_example_stores_and_loads_over_a_restart(tmp_path, form):
    ended = subprocess.run(
        [sys.executable, EXAMPLES / f"lmcache_{form}.py", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    assert "after a restart 8 of 8 chunks came from larder" in ended.stdout
    assert "larder_hits_total 8" in ended.stdout
    assert ("listed 8 objects" in ended.stdout) == (form == "plugin")
    assert json.loads((EXAMPLES / f"lmcache_{form}.json").read_text())["type"] == form
