"""Every example is run, and can be imported without doing anything."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"

# The output of each, as a pattern.
SAYS = {
    "batches.py": r"turn 1: 0 of 15 pages .*turn 2: 15 of 15 pages .*\n7 pages were deleted\n",
    "plain.py": r"there: \[True, .*, False\]\nloaded 1048576 bytes.*healthy, 3 keys\n",
    "asyncio_store.py": r"turn 3: [1-9]\d* of 96 chunks came from the store\n",
}
# Those with further requirements, and the tests that run them.
ELSEWHERE = {
    "lmcache_example.py": "what the next two share",
    "lmcache_native_plugin.py": "tests/interop/test_lmcache_examples.py",
    "record_trace.py": "test_record_trace.py",
    "lmcache_plugin.py": "tests/interop/test_lmcache_examples.py",
    "transformers_prompt_cache.py": "tests/interop/test_hf.py",
}


def test_no_example_is_forgotten():
    found = {path.name for path in EXAMPLES.glob("*.py")}
    assert found == SAYS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs(name, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        # An engine's client writes a line when it is opened, and one when it is closed.
        env={**os.environ, "LARDER_LOG": "warning"},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert re.search(SAYS[name], ended.stdout, re.DOTALL), ended.stdout


@pytest.mark.parametrize("name", SAYS)
def test_an_example_can_be_imported(name, capsys):
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), EXAMPLES / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__doc__ and callable(module.main)
    assert capsys.readouterr() == ("", "")
