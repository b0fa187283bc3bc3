"""The paths of HTTP that change what is cached, in the shapes of LMCache's server: the same requests
to `larder server`, or with LARDER_MP_SERVER=0.5.6 to LMCache's own, which shows that a test is fair."""

import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
from mp_server import STOCK, TESTED, Client, MpServer, l2_option, wait_for

VERSION = TESTED if TESTED in STOCK else "0.5.6"
MODEL = "golden/model-1"
TOKENS = [(2 * 7_919 + 31 * i) % 151_000 for i in range(4 * 16)]  # As mp_client.py of seed 2.
NO_KEY = {
    "chunk_hash_hex": "00" * 32,
    "model_name": MODEL,
    "kv_rank": 0x01000100,
    "object_group_id": 0,
    "cache_salt": "",
}

larder_only = pytest.mark.skipif(
    TESTED != "larder", reason="SKIPPED (needs larder: LMCache's server has not got that)"
)


@pytest.fixture
def server(tmp_path):
    options = l2_option({"type": "fs", "base_path": str(tmp_path / "l2")})
    (tmp_path / "l2").mkdir()
    if TESTED == "larder":
        options.append("--admin-open")
    with MpServer(TESTED, tmp_path / "server.log", options=options) as server:
        yield server


@pytest.fixture
def client(tmp_path, server):
    with Client(VERSION, server, tmp_path / "client.log", model=MODEL) as client:
        yield client


def ask(server, method, path, body=None):
    """The code and the JSON of the answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.http_port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def refused(answer):
    """Code and detail. larder has the same text under "message", too."""
    code, body = answer
    return code, body["detail"]


def objects_in_l1(server):
    return server.status()["storage_manager"]["l1_manager"]["total_object_count"]


def stored_files(tmp_path):
    return list((tmp_path / "l2").rglob("*.data"))


def test_adapters_are_listed(server):
    code, body = ask(server, "GET", "/config/adapters")
    assert code == 200
    (adapter,) = body["adapters"]
    assert adapter.pop("reconfigurable") in (True, False)
    assert adapter == {"index": 0, "type_name": "fs", "tier": "l2", "primary": True}


def test_a_prefetch_loads_into_l1_and_tells_once(tmp_path, server, client):
    assert client.ask("store", 2, 4) is True
    wait_for(lambda: len(stored_files(tmp_path)) == 4, "the stores into L2")
    wait_for(lambda: ask(server, "POST", "/cache/clear") and objects_in_l1(server) == 0, "the clear")
    wanted = {"model_name": MODEL, "world_size": 1, "token_ids": TOKENS}
    code, begun = ask(server, "POST", "/cache/prefetches", wanted)
    assert code == 202
    path = f"/cache/prefetches/{begun['request_id']}"
    assert begun == {"request_id": begun["request_id"], "chunks": 4, "status": "submitted"}
    told = wait_for(
        lambda: (got := ask(server, "GET", path))[1]["status"] != "pending" and got, "its end"
    )
    assert told == (
        200,
        {
            "request_id": begun["request_id"],
            "status": "completed",
            "found_keys": 4,
            "total_keys": 4,
        },
    )
    assert objects_in_l1(server) == 4
    assert refused(ask(server, "GET", path)) == (
        404,
        f"unknown prefetch request_id='{begun['request_id']}' (already completed or never submitted)",
    )


def test_a_prefetch_that_cannot_be_made_is_refused(server, client):
    path, wanted = "/cache/prefetches", {"model_name": MODEL, "world_size": 1, "token_ids": [1, 2]}
    assert ask(server, "POST", path, wanted) == (202, {"chunks": 0, "status": "noop"})
    assert refused(ask(server, "POST", path, {**wanted, "model_name": "unknown"})) == (
        503,
        "no layout registered for model_name='unknown' world_size=1; the model has not allocated "
        "KV cache on this node yet",
    )
    assert refused(ask(server, "POST", path, {**wanted, "source_tier": "l1"})) == (
        400,
        "unsupported prefetch direction 'l1'->'l1'; only 'l2'->'l1'",
    )
    assert refused(ask(server, "POST", path, {**wanted, "token_ids": [0] * 1_000_001}))[0] == 400
    assert refused(ask(server, "POST", path, {**wanted, "cache_salt": "a@b"}))[0] == 400
    for wrong in ({"token_ids": "x"}, {"world_size": "x"}, {"source_tier": "l3"}):
        assert ask(server, "POST", path, {**wanted, **wrong})[0] == 422, wrong
    assert ask(server, "POST", path, {"model_name": MODEL})[0] == 422
    assert ask(server, "GET", path + "/none")[0] == 404


def test_deletes_say_what_went(tmp_path, server, client):
    path = "/cache/objects"
    assert client.ask("store", 2, 4) is True
    wait_for(lambda: len(stored_files(tmp_path)) == 4, "the stores into L2")

    def delete(body):
        return ask(server, "DELETE", path, body)

    assert delete({"keys": []}) == (200, {"deleted": 0, "skipped": 0, "ok": True})
    assert delete({"keys": [NO_KEY]}) == (200, {"deleted": 1, "skipped": 0, "ok": True})
    assert delete({"keys": [NO_KEY], "tier": "l1"}) == (
        200,
        {"deleted": 0, "skipped": 0, "ok": True},
    )
    names = [file.name.removesuffix(".data") for file in stored_files(tmp_path)]
    keys = [{**NO_KEY, "chunk_hash_hex": next(p for p in n.split("@") if len(p) == 64)} for n in names]
    assert delete({"keys": keys[:2], "tier": "all"}) == (
        200,
        {"deleted": 4, "skipped": 0, "ok": True},
    )
    assert objects_in_l1(server) == 2
    wait_for(lambda: len(stored_files(tmp_path)) == 2, "the deletes in L2")
    assert delete({"keys": keys, "tier": "l2", "adapter": "fs"})[0] == 200
    wait_for(lambda: not stored_files(tmp_path), "the deletes in L2")

    wrong = {**NO_KEY, "chunk_hash_hex": "zz"}
    assert refused(delete({"keys": [NO_KEY, wrong]})) == (
        400,
        "keys[1]: non-hexadecimal number found in fromhex() arg at position 0",
    )
    assert refused(delete({"keys": [{**NO_KEY, "model_name": "a@b"}]})) == (
        400,
        "keys[0]: model_name must not contain '@' (got 'a@b')",
    )
    assert refused(delete({"keys": [NO_KEY] * 10_001})) == (
        400,
        "too many keys in a single request (limit=10000, got=10001)",
    )
    assert refused(delete({"keys": [], "adapter": "nope"}))[0] == 404
    for malformed in ({}, {"keys": 1}, {"keys": [{}]}, {"keys": [], "tier": "l3"}):
        assert delete(malformed)[0] == 422, malformed
    assert ask(server, "GET", path + "?tier=l1")[0] == 400
    assert ask(server, "GET", path + "?adapter=nope")[0] == 404
    assert ask(server, "GET", path + "?page_size=5001")[0] == 422


def test_an_object_goes_from_l1_alone(tmp_path, server, client):
    assert client.ask("store", 2, 1) is True
    wait_for(lambda: len(stored_files(tmp_path)) == 1, "the store into L2")
    (name,) = [file.name.removesuffix(".data") for file in stored_files(tmp_path)]
    key = {**NO_KEY, "chunk_hash_hex": next(part for part in name.split("@") if len(part) == 64)}
    assert ask(server, "DELETE", "/cache/objects", {"keys": [key], "tier": "l1"}) == (
        200,
        {"deleted": 1, "skipped": 0, "ok": True},
    )
    assert objects_in_l1(server) == 0
    assert len(stored_files(tmp_path)) == 1


@larder_only
def test_objects_are_listed_and_all_tiers_cleared(tmp_path, server, client):
    assert client.ask("store", 2, 4) is True
    assert client.ask("store", 3, 4) is True
    wait_for(lambda: len(stored_files(tmp_path)) == 8, "the stores into L2")
    entries, token = [], ""
    while token is not None:
        query = urllib.parse.urlencode({"page_size": 3, **({"page_token": token} if token else {})})
        code, page = ask(server, "GET", f"/cache/objects?{query}")
        assert (code, page["adapter"]) == (200, "fs")
        entries += page["entries"]
        token = page["next_page_token"]
    assert len({entry["key"]["chunk_hash_hex"] for entry in entries}) == 8
    assert ask(server, "DELETE", "/cache/objects", {"keys": [entries[0]["key"]]})[0] == 200
    assert len(stored_files(tmp_path)) == 7
    code, body = ask(server, "POST", "/cache/clear", {"tier": "all"})
    assert (code, body["status"], body["cleared"]) == (200, "ok", {"tier": "all"})
    assert not stored_files(tmp_path)
    assert objects_in_l1(server) == 0
    assert client.ask("load", 2, 4) == 0
    assert client.ask("store", 2, 4) is True


@larder_only
def test_paths_that_lmcache_has_and_larder_leaves_out_are_not_there(server):
    for method, path in (
        ("POST", "/run_script"),
        ("GET", "/env"),
        ("GET", "/threads"),
        ("GET", "/periodic-threads"),
        ("GET", "/reconfigure/dax/l1/status"),
    ):
        code, body = ask(server, method, path)
        assert code == 404
        assert path in body["detail"] and "it has GET /" in body["detail"]
