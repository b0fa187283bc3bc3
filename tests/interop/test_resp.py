"""Keys and values on a Redis server are those of LMCache's own client, both ways; and an unmodified
LMCache server keeps its cache there through larder."""

import os
import select

import pytest
from l2_json import l2_of
from lmcache.lmcache_redis import LMCacheRedisClient
from lmcache_server import Engine, Server, wait_for
from redis_server import RedisServer
from test_lmcache_server import CHUNKS, prompt

from larder.lmcache import Connector

PASSWORD = "a password"
# As LMCache makes them: model@world size@rank@hash@type.
KEYS = [f"meta-llama/Llama-3.1-8B@1@0@{i:032x}@bfloat16" for i in range(24)]


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path, "--requirepass", PASSWORD) as server:
        yield server


@pytest.fixture
def theirs(redis):
    client = LMCacheRedisClient("127.0.0.1", redis.port, 4, "default", PASSWORD)
    yield client
    client.close()


@pytest.fixture
def ours(redis):
    client = Connector(
        type="resp",
        host="127.0.0.1",
        port=redis.port,
        num_workers=4,
        username="default",
        password=PASSWORD,
        max_capacity_gb=1,
    )
    yield client
    client.close()


def wait(client, future):
    while True:
        readable, _, _ = select.select([client.event_fd()], [], [], 60)
        assert readable, "no completion within 60 s"
        for completed, ok, error, results in client.drain_completions():
            if completed == future:
                return ok, error, results


def values_of(size):
    return [bytearray(os.urandom(size)) for _ in KEYS]


@pytest.mark.parametrize("size", [1, 1000, 65536, 3_000_001])
def test_what_one_client_stores_the_other_loads(ours, theirs, size):
    for writer, reader in ((ours, theirs), (theirs, ours)):
        values = values_of(size)
        # larder keeps what is there (content hashes name the values): so it is taken away first.
        ok, error, _ = wait(writer, writer.submit_batch_delete(KEYS))
        assert ok, error
        ok, error, _ = wait(writer, writer.submit_batch_set(KEYS, [memoryview(v) for v in values]))
        assert ok, error
        ok, error, found = wait(reader, reader.submit_batch_exists(KEYS))
        assert ok and all(found), error
        loaded = [bytearray(size) for _ in KEYS]
        ok, error, _ = wait(reader, reader.submit_batch_get(KEYS, [memoryview(b) for b in loaded]))
        assert ok, error
        assert loaded == values


def test_what_one_client_deletes_is_gone_for_the_other(ours, theirs):
    for remover, other in ((ours, theirs), (theirs, ours)):
        values = values_of(100)
        ok, error, _ = wait(theirs, theirs.submit_batch_set(KEYS, [memoryview(v) for v in values]))
        assert ok, error
        wait(remover, remover.submit_batch_delete(KEYS[::2]))
        _, _, found = wait(other, other.submit_batch_exists(KEYS))
        assert [bool(one) for one in found] == [i % 2 == 1 for i in range(len(KEYS))]


def test_an_lmcache_server_goes_on_while_redis_is_restarted(tmp_path, redis):
    # LMCache writes an adapter's parameters to its log: a password stands elsewhere.
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    l2 = l2_of(
        type="resp",
        host="127.0.0.1",
        port=redis.port,
        password_file=str(secret),
        reconnect_max="100ms",
    )
    with Server(l2, tmp_path / "server.log") as server:
        engine = Engine(server)
        engine.store(prompt())
        wait_for(lambda: server.larder_metrics().get("larder_keys") == CHUNKS, "the store to L2")
    with Server(l2, tmp_path / "server.log") as server:
        engine = Engine(server)
        assert engine.load(prompt()) == CHUNKS, "from Redis: this server has stored nothing"
        redis.stop()
        assert engine.load(prompt(1)) == 0
        engine.store(prompt(1))
        assert engine.load(prompt(1)) == CHUNKS, "from L1"
        redis.start()

        def comes_back():
            comes_back.number += 1
            engine.store(prompt(comes_back.number))
            return server.larder_metrics().get("larder_sets_total", 0) > 0

        comes_back.number = 1
        wait_for(comes_back, "a store to the new Redis")
        assert server.process.poll() is None
        assert "Traceback" not in server.text(), server.text()
        assert PASSWORD not in server.text()
