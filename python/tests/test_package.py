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
    classes = "Addresses|AsyncClient|BatchClient|Client|Completions|KeyAccounts"
    allowed.write_text(rf"larder\._larder\.({classes})" + "\n", encoding="utf-8")
    ended = run("mypy.stubtest", "larder._larder", "--allowlist", str(allowed))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_users_typed_program_checks(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import larder.aio\n"
        "from larder.lmcache import Connector, ConnectorClient, ConnectorClientBase\n"
        "store: larder.Store = larder.open('memory:')\n"
        "hits: list[bool] = store.get_into(['k'], [bytearray(1)]).hits\n"
        "value: bytes | None = store.get(b'k', timeout=None)\n"
        "store.set_many(['k'], [b'1'], mode='if_absent')\n"
        "fd: int = Connector('memory:').event_fd()\n"
        "with larder.Client('memory:', capacity='1GiB') as client:\n"
        "    client.submit_set(['k'], [[b'1', b'2']], 'replace', urgency='background', tag=7)\n"
        "    client.submit_get([b'k'], larder.Addresses([0], 0), deadline=0.5)\n"
        "    done: larder.Completion = client.drain()[0]\n"
        "    codes: bytes = done.codes\n"
        "    why: str = done.failures[0].code\n"
        "    sizes: list[int | None] | None = client.probe(['k'])\n"
        "    removed: int = client.delete_prefix('k')\n"
        "async def use() -> None:\n"
        "    async with larder.aio.open('memory:') as opened:\n"
        "        found: bytes | None = await opened.get('k')\n"
        "    other: larder.aio.Store = await larder.aio.open('memory:')\n"
        "    hits: list[bool] = (await other.get_into(['k'], [bytearray(1)])).hits\n"
        "    keys: list[bytes] = [key async for key, _ in other.scan()]\n"
        "    client = await ConnectorClient.open('memory:')\n"
        "    mask: list[bool] = await client.batch_get(['k'], [memoryview(b'')])\n"
        "    there: list[int | None] = await client.sizes(['k'])\n"
        "    names: list[bytes] = [key async for key, _ in client.scan('k')]\n"
        "class Users(ConnectorClientBase[Connector]):\n"
        "    def __init__(self, path: str) -> None:\n"
        "        super().__init__(Connector(path))\n",
        encoding="utf-8",
    )
    assert run("mypy", "--strict", str(program)).stdout.startswith("Success")
    program.write_text("import larder\nlarder.open('memory:').get_into('k', 7)\n", encoding="utf-8")
    assert 'has incompatible type "int"' in run("mypy", "--strict", str(program)).stdout
    program.write_text(
        "import larder\nlarder.Client('memory:').submit_exists(['k'], urgency='soon')\n",
        encoding="utf-8",
    )
    assert "has incompatible type \"Literal['soon']\"" in run("mypy", "--strict", str(program)).stdout
