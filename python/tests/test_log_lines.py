"""The log's lines when a store is opened and closed."""

import os
import subprocess
import sys

import pytest


def run(tmp_path, program, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "LARDER_LOG"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ended.stderr.splitlines()


AS_L2 = """
from larder.lmcache import Connector
connector = Connector(url=SPEC)
connector.close()
"""
AS_STORE = """
import larder
with larder.open(SPEC):
    pass
"""


def log_spec(tmp_path):
    return f"SPEC = 'log:{tmp_path}/a/kv?capacity=512MiB&min_free=0'\n"


def test_an_l2_says_what_it_opened_and_closed(tmp_path):
    opened, closed = run(tmp_path, log_spec(tmp_path) + AS_L2)
    assert f" I [log] {tmp_path}/a/kv: opened in " in opened
    for part in ["by larder 0.", "healthy", "0 keys", "of 512 MiB", "direct ", "io ", "made "]:
        assert part in opened, part
    assert f"{tmp_path}/a/kv: closed: 0 keys" in closed
    again, _ = run(tmp_path, log_spec(tmp_path) + AS_L2)
    assert "made " not in again


@pytest.mark.parametrize("level", ["warning", "error", "off"])
def test_a_higher_level_silences_it(tmp_path, level):
    assert run(tmp_path, log_spec(tmp_path) + AS_L2, LARDER_LOG=level) == []


def test_a_plain_store_says_it_at_level_info_only(tmp_path):
    assert run(tmp_path, log_spec(tmp_path) + AS_STORE) == []
    opened, closed = run(tmp_path, log_spec(tmp_path) + AS_STORE, LARDER_LOG="info")
    assert "opened in" in opened and "closed:" in closed


def test_no_password_is_in_it(tmp_path):
    spec = "SPEC = 'redis://me:SECRET-1@127.0.0.1:1?reconnect_max=1s'\n"
    opened, *_ = run(tmp_path, spec + AS_L2)
    assert "opened in" in opened and "127.0.0.1" in opened
    assert "SECRET" not in opened
