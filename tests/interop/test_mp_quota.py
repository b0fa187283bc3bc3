"""The unmodified command `lmcache quota` of both versions against `larder server` (S28, E22)."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from mp_server import STOCK, TESTED, Client, MpServer, environment_of, require, wait_for

VERSIONS = list(STOCK)


def quota(version, server, *arguments):
    """What `lmcache quota` shows, as JSON; an error as its text."""
    require(version)
    program = os.path.join(os.path.dirname(sys.executable), "lmcache")
    url = f"http://127.0.0.1:{server.http_port}"
    ended = subprocess.run(
        [program, "quota", *map(str, arguments), "--url", url, "--format", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment_of(version),
    )
    if ended.returncode != 0:
        return ended.stdout + ended.stderr
    begin = ended.stdout.index("{")
    return json.JSONDecoder().raw_decode(ended.stdout[begin:])[0]["metrics"]


def start(tmp_path, *options):
    own = ("--admin-open", *options) if TESTED == "larder" else options
    return MpServer(TESTED, tmp_path / "server.log", options=own)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_sets_reads_lists_and_deletes(tmp_path, version):
    with start(tmp_path) as server:
        assert "No quotas configured" in json.dumps(quota(version, server, "list"))
        shown = quota(version, server, "set", "tenant-a", "--limit-gb", "1.5")
        assert (shown["cache_salt"], shown["limit_gb"], shown["status"]) == ("tenant-a", 1.5, "ok")
        shown = quota(version, server, "get", "tenant-a")
        assert (shown["limit_gb"], shown["exists"]) == (1.5, True)
        assert shown["current_usage_gb"] == 0
        shown = quota(version, server, "set", "", "--limit-gb", "0.5")
        assert shown["cache_salt"] == "_default"
        listed = json.dumps(quota(version, server, "list"))
        assert "tenant-a" in listed and "_default" in listed
        assert quota(version, server, "delete", "tenant-a")["status"] == "removed"
        assert quota(version, server, "delete", "tenant-a")["status"] == "not_found"
        assert quota(version, server, "get", "tenant-a")["exists"] is False
        for wrong, said in (("-1", "non-negative"), ("nan", "finite"), ("inf", "finite")):
            refused = quota(version, server, "set", "x", f"--limit-gb={wrong}")
            assert isinstance(refused, str) and said in refused, refused


@pytest.mark.parametrize("version", VERSIONS)
def test_a_limit_holds_for_a_client_and_after_a_kill(tmp_path, version):
    if TESTED != "larder":
        pytest.skip("SKIPPED (needs larder: LMCache's quotas evict once a second, in L2 alone)")
    options = ("--quota-file", tmp_path / "quotas.json")
    with start(tmp_path, *options) as server:
        with Client(version, server, tmp_path / "client.log") as client:
            assert client.ask("store", 2, 4) is True
        used = quota(version, server, "get", "_default")["current_usage_gb"]
        assert used > 0
        # Two of the four chunks.
        shown = quota(version, server, "set", "_default", "--limit-gb", repr(used / 2))
        assert shown["status"] == "ok"
        wait_for(
            lambda: quota(version, server, "get", "_default")["current_usage_gb"] <= used / 2,
            "eviction down to the limit",
        )
        server.kill()
    with start(tmp_path, *options) as server:
        assert quota(version, server, "get", "_default")["exists"] is True
        with Client(version, server, tmp_path / "client.log") as client:
            client.ask("store", 3, 6)
            assert client.ask("load", 3, 6) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_the_command_shows_why_a_change_is_refused(tmp_path, version):
    if TESTED != "larder":
        pytest.skip("SKIPPED (needs larder: LMCache's server needs no token)")
    with MpServer(TESTED, tmp_path / "server.log") as server:
        refused = quota(version, server, "set", "a", "--limit-gb", "1")
        assert isinstance(refused, str) and "--admin-token-file" in refused, refused
        assert isinstance(quota(version, server, "delete", "a"), str)
        assert quota(version, server, "get", "a")["exists"] is False


def request(server, method, path, body=None):
    """Its status and JSON, and never a dead connection."""
    url = f"http://127.0.0.1:{server.http_port}{path}"
    asked = urllib.request.Request(url, data=body, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_answers_have_lmcaches_shape(tmp_path):
    """Each answer's fields, without larder's own, are those of the samples of LMCache 0.5.6."""
    own = {"guarantee_gb", "l2_limit_gb", "l2_usage_gb"}

    def plain(answer):
        status, fields = answer
        return status, {key: value for key, value in fields.items() if key not in own}

    with start(tmp_path) as server:
        assert request(server, "GET", "/quota")[1]["users"] == {}
        body = b'{"limit_gb": 1.5}'
        assert request(server, "PUT", "/quota/tenant-a", body) == (
            200,
            {"cache_salt": "tenant-a", "limit_gb": 1.5, "status": "ok"},
        )
        assert plain(request(server, "GET", "/quota/tenant-a")) == (
            200,
            {"cache_salt": "tenant-a", "limit_gb": 1.5, "current_usage_gb": 0.0, "exists": True},
        )
        for body, said in (
            (b'{"limit_gb": -1}', "limit_gb must be non-negative"),
            (b'{"nope": 1}', "body must be {'limit_gb': <float>}"),
            (b"", "invalid JSON body"),
            (b'{"limit_gb": NaN}', "limit_gb must be finite"),
            (b'{"limit_gb": [1]}', "limit_gb must be numeric"),
        ):
            assert request(server, "PUT", "/quota/x", body) == (400, {"error": said})
        assert request(server, "DELETE", "/quota/tenant-a") == (
            200,
            {"cache_salt": "tenant-a", "status": "removed"},
        )
        assert request(server, "GET", "/quota")[1]["users"] == {}
