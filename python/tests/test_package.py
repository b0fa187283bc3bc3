"""The stubs are the module's, and the types of the package hold."""

import subprocess
import sys

import pytest

pytest.importorskip("mypy")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False
    )


def test_stubs_and_module_agree(tmp_path):
    # The classes themselves have nanobind's metaclass, which no stub can name; their members
    # are checked.
    allowed = tmp_path / "allowed"
    allowed.write_text(r"larder\._larder\.(AsyncClient|Client|Completions)" + "\n", encoding="utf-8")
    ended = run("mypy.stubtest", "larder._larder", "--allowlist", str(allowed))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_users_typed_program_checks(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import larder\n"
        "from larder.lmcache import Connector\n"
        "store: larder.Store = larder.open('memory:')\n"
        "hits: list[bool] = store.get_into(['k'], [bytearray(1)]).hits\n"
        "value: bytes | None = store.get(b'k', timeout=None)\n"
        "store.set_many(['k'], [b'1'], mode='if_absent')\n"
        "fd: int = Connector('memory:').event_fd()\n",
        encoding="utf-8",
    )
    assert run("mypy", "--strict", str(program)).stdout.startswith("Success")
    program.write_text("import larder\nlarder.open('memory:').get_into('k', 7)\n", encoding="utf-8")
    assert 'has incompatible type "int"' in run("mypy", "--strict", str(program)).stdout
