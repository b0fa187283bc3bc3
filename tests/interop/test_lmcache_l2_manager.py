"""LMCache's own StorageManager, and its server, with larder's L2 adapter: under load, with each of
the two evicting, over restarts, and listed over HTTP."""

import json
import random
import threading
import urllib.error
import urllib.request

import pytest
from l2_adapter import KIB, MIB, Listener, key_of, log_of, plugin
from l2_manager import Manager
from lmcache_server import CHUNK_BYTES, CHUNK_TOKENS, Engine, Server, wait_for

from larder.lmcache.l2_keys import wire_key


def used(adapter):
    return adapter.get_usage().total_bytes_used


def listed(adapter):
    keys, cursor = {}, None
    while True:
        page = adapter.list_l2_keys(page_size=50, cursor=cursor)
        assert len(page.entries) <= 50
        keys.update((entry.key.to_object_key(), entry.size_bytes) for entry in page.entries)
        cursor = page.next_page_token
        if cursor is None:
            return keys


def stored(manager, adapter, keys):
    """Stores a chain, also if L1 has to make room first, and waits until L2 has all of it."""
    pending = list(keys)

    def store_pending():
        there = set(manager.store(pending))
        pending[:] = [key for key in pending if key not in there]
        return not pending

    wait_for(store_pending, "room in L1")
    wait_for(lambda: all_there(adapter, keys), f"the store of {len(keys)} keys")


def all_there(adapter, keys):
    with adapter._mirror.lock:
        return all(wire_key(key).encode() in adapter._mirror.accounts for key in keys)


def chain_of(number, count=16, salt=""):
    return [key_of(number * 1000 + i, salt) for i in range(count)]


def test_stores_and_loads_under_load_and_after_a_restart(tmp_path):
    """Four threads on an L1 that holds a quarter of it: most loads come from larder."""
    l2 = plugin(url=log_of(tmp_path))
    chains = [chain_of(number, salt=f"tenant{number % 3}") for number in range(40)]
    errors, served = [], []

    def work(mine):
        chooser = random.Random(mine)
        try:
            for number in range(mine, len(chains), 4):
                stored(manager, adapter, chains[number])
                wanted = chains[chooser.randrange(mine, number + 1, 4)]
                wait_for(lambda: manager.load(wanted)[0] == len(wanted), "a load of a whole chain")
                served.append(number)
        except BaseException as error:
            errors.append(error)

    with Manager(l2, l1_mib=48) as manager:
        (adapter,) = manager.adapters
        listener = Listener()
        adapter.register_listener(listener)
        threads = [threading.Thread(target=work, args=(mine,)) for mine in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
        assert len(served) == 40
        status = adapter.report_status()
        assert status["locked_keys"] == 0 and status["errors"] == {}, status
        assert manager.manager.report_status()["is_healthy"]
        usage = adapter.get_usage()
        assert usage.total_bytes_used == 640 * 256 * KIB
        assert dict(usage.bytes_by_cache_salt) == listener.by_salt()
        assert len(usage.bytes_by_cache_salt) == 3
    with Manager(l2) as manager:
        (adapter,) = manager.adapters
        wait_for(lambda: adapter.report_status()["accounting"]["is_complete"], "the scan")
        again = adapter.get_usage()
        assert again.total_bytes_used == usage.total_bytes_used
        assert dict(again.bytes_by_cache_salt) == dict(usage.bytes_by_cache_salt)
        assert manager.load(chains[7]) == (16, 16), "all of it from L2, in a new process's eyes"
        assert manager.load(chain_of(99)) == (0, 0)
        assert len(listed(adapter)) == 640


def test_larder_evicts_and_lmcache_hears_of_it(tmp_path):
    url = log_of(tmp_path, capacity="16MiB", max_value="64KiB", segment="512KiB")
    with Manager(plugin(url=url), chunk_bytes=64 * KIB) as manager:
        (adapter,) = manager.adapters
        listener = Listener()
        adapter.register_listener(listener)
        for number in range(40):
            assert len(manager.store(chain_of(number))) == 16
        counters = adapter._connector.report
        wait_for(lambda: counters()["counters"]["sets_total"] == 640, "the stores")
        manager.forget_l1()
        wait_for(lambda: listener.deleted > 300, "evictions to be told of")
        assert used(adapter) < 16 * MIB
        wait_for(lambda: listed(adapter) == listener.sizes, "the events of evictions")
        assert used(adapter) == 64 * KIB * len(listener.sizes)
        found = [manager.load(chain_of(number))[0] for number in range(40)]
        assert 0 in found and 16 in found, "the oldest went, whole chains are left"
        assert adapter.report_status()["errors"] == {}


def test_lmcache_evicts_what_an_earlier_life_stored(tmp_path):
    """larder's capacity is never reached: only LMCache's policy can have chosen."""
    url = log_of(tmp_path)
    with Manager(plugin(url=url, evict="lmcache"), chunk_bytes=64 * KIB) as manager:
        for number in range(20):
            stored(manager, manager.adapters[0], chain_of(number))
        before = used(manager.adapters[0])
        assert before == 320 * 64 * KIB
    capacity_gb = 25 / 1024
    eviction = {"eviction_policy": "LRU", "trigger_watermark": 0.5, "eviction_ratio": 0.25}
    l2 = plugin(
        url=url, evict="lmcache", lmcache_capacity_gb=capacity_gb, eviction=eviction
    )
    with Manager(l2, chunk_bytes=64 * KIB) as manager:
        (adapter,) = manager.adapters
        usage = adapter.get_usage()
        assert usage.total_capacity_bytes == 25 * MIB
        wait_for(
            lambda: adapter.report_status()["accounting"]["is_complete"]
            and adapter.get_usage().usage_fraction < 0.5,
            "LMCache's eviction",
        )
        assert used(adapter) == 64 * KIB * len(listed(adapter)) > 0
        counters = adapter._connector.report()["counters"]
        assert counters["records_evicted_total"] == 0
        assert adapter.report_status()["errors"] == {}
        stored(manager, adapter, chain_of(50))
        assert manager.load(chain_of(50))[0] == 16


def test_quotas_by_salt_evict_one_tenant(tmp_path):
    eviction = {"eviction_policy": "IsolatedLRU", "trigger_watermark": 1.0, "eviction_ratio": 0.5}
    l2 = plugin(url=log_of(tmp_path), evict="lmcache", eviction=eviction)
    with Manager(l2, chunk_bytes=64 * KIB) as manager:
        (adapter,) = manager.adapters
        quotas = manager.manager._quota_manager
        quotas.set_quota("greedy", 2 * MIB)
        quotas.set_quota("modest", 100 * MIB)
        for number in range(6):
            salt = "modest" if number == 0 else "greedy"
            manager.store(chain_of(number, salt=salt))
        wait_for(
            lambda: 0 < adapter.get_usage().bytes_by_cache_salt.get("greedy", 0) < 2 * MIB,
            "the greedy tenant's eviction",
        )
        assert adapter.get_usage().bytes_by_cache_salt["modest"] == MIB


@pytest.mark.parametrize("policy", ["LRU", "IsolatedLRU"])
def test_an_eviction_block_that_was_not_meant_stops_the_manager(tmp_path, policy):
    l2 = plugin(url=log_of(tmp_path), eviction={"eviction_policy": policy})
    with pytest.raises(ValueError, match='Remove the "eviction" block'):
        Manager(l2)
    # Nothing was left open: the directory can be opened again.
    with Manager(plugin(url=log_of(tmp_path))) as manager:
        stored(manager, manager.adapters[0], chain_of(1))


def test_two_adapters_keep_apart(tmp_path):
    l2s = [plugin(url=log_of(tmp_path / name)) for name in ("one", "two")]
    with Manager(*l2s) as manager:
        fds = {
            fd
            for adapter in manager.adapters
            for fd in (
                adapter.get_store_event_fd(),
                adapter.get_lookup_and_lock_event_fd(),
                adapter.get_load_event_fd(),
            )
        }
        assert len(fds) == 6
        manager.store(chain_of(1))
        for adapter in manager.adapters:
            wait_for(lambda: used(adapter) == 16 * 256 * KIB, "the stores to both")
        manager.forget_l1()
        assert manager.load(chain_of(1)) == (16, 16)


# --- The server ----------------------------------------------------------------------------------

CHUNKS = 24


def prompt(number=0):
    return [number * 1_000_003 + i for i in range(CHUNKS * CHUNK_TOKENS)]


def http(server, path, *, method="GET", body=None):
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


def test_the_server_lists_and_deletes_over_http(tmp_path):
    l2 = plugin(url=log_of(tmp_path))
    with Server(l2, tmp_path / "server.log") as server:
        Engine(server).store(prompt())
        wait_for(lambda: server.larder_metrics().get("larder_keys") == CHUNKS, "the store to L2")
    with Server(l2, tmp_path / "server.log") as server:
        entries, token, pages = [], "", 0
        while token is not None:
            path = "/cache/objects?page_size=10" + (f"&page_token={token}" if token else "")
            status, page = http(server, path)
            assert status == 200 and page["adapter"] == "plugin"
            entries += page["entries"]
            token = page["next_page_token"]
            pages += 1
        assert len(entries) == CHUNKS and pages == 3
        assert {entry["size_bytes"] for entry in entries} == {CHUNK_BYTES}
        assert http(server, "/cache/objects?page_token=nonsense")[0] == 400
        assert http(server, "/cache/objects?model_name=another")[1]["entries"] == []
        status, answer = http(
            server,
            "/cache/objects",
            method="DELETE",
            body={"keys": [entries[-1]["key"]], "tier": "l2"},
        )
        assert status == 200 and answer["deleted"] == 1, answer
        assert server.larder_metrics()["larder_keys"] == CHUNKS - 1
        status, whole = http(server, "/status")
        (adapter,) = whole["storage_manager"]["l2_adapters"]
        assert adapter["is_healthy"] and adapter["evict"] == "larder"
        assert adapter["current_size_bytes"] == (CHUNKS - 1) * CHUNK_BYTES
        assert adapter["is_l1_aligned"] is True
        assert Engine(server).load(prompt()) >= CHUNKS - 1, "the last chunk is not there"


def test_the_server_refuses_an_eviction_block_with_the_remedy(tmp_path):
    l2 = plugin(url=log_of(tmp_path), eviction={"eviction_policy": "LRU"})
    with pytest.raises(AssertionError, match='Remove the "eviction" block'):
        Server(l2, tmp_path / "server.log")
