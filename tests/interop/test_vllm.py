"""End to end: an unmodified vLLM and an unmodified LMCache, as docs/lmcache.md configures them, with a
store and a memory for a small machine: restarted, and a prompt's prefix comes from larder. Runs in
the environment `engine` (scripts/python_env.sh)."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from broken_stores import flip_one_byte_of_a_value
from documented_setups import block_of, commands_of, option_of, replaced, variable_of
from environments import VLLM_ON_CPUS, python_path
from lmcache_server import Server, wait_for

import larder

HERE = pathlib.Path(__file__).parent
CHUNKS = 5  # Of 256 tokens, in a prompt of 1,500.


def run(*arguments, **environment):
    ended = subprocess.run(
        [sys.executable, HERE / "vllm_process.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={
            **os.environ,
            **VLLM_ON_CPUS,
            **environment,
        },
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


def serve(model, transfer=None, **environment):
    printed = run("serve", model, json.dumps(transfer), **environment)
    return json.loads(next(line for line in printed.splitlines() if line.startswith('{"tokens"')))


def store_at(directory):
    """In place of the documented store."""
    return {
        "log:/data/kv?capacity=500GiB": f"log:{directory}?capacity=1GiB&max_value=4MiB&min_free=0"
    }


def documented_l2(form):
    (l2,) = [
        found
        for words in commands_of("lmcache.md", "^lmcache server --l1-size-gb")
        if (found := option_of(words, "--l2-adapter"))["type"] == form
    ]
    return l2


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
def test_a_prompt_is_served_from_larder_after_both_were_restarted(tmp_path, form):
    model = tmp_path / "model"
    run("model", model)
    reference = serve(model)
    assert len(set(reference["tokens"])) > 4, "an output that wrong bytes would change"

    l2 = replaced(documented_l2(form), store_at(tmp_path / "kv"))
    (words,) = commands_of("lmcache.md", "^vllm serve .*LMCacheMPConnector")
    log = tmp_path / "server.log"

    def of(server):
        transfer = option_of(words, "--kv-transfer-config")
        return replaced(transfer, {"5555": str(server.port)})

    with Server(l2, log, chunk_tokens=256) as server:
        first = serve(model, of(server))
        assert (first["tokens"], first["cached"]) == (reference["tokens"], 0)
        wait_for(lambda: server.larder_metrics().get("larder_keys") == CHUNKS, "the store to L2")

    with Server(l2, log, chunk_tokens=256) as server:
        second = serve(model, of(server))
        assert second["tokens"] == reference["tokens"]
        assert second["cached"] == CHUNKS * 256, "on the first request of both processes"
        # LMCache loads them for each request of the process, also for those whose tokens vLLM still has.
        assert server.larder_metrics()["larder_hits_total"] >= CHUNKS

    flip_one_byte_of_a_value(tmp_path / "kv")
    with Server(l2, log, chunk_tokens=256) as server:
        third = serve(model, of(server))
        assert third["tokens"] == reference["tokens"], "recomputed, not served wrong"
        assert third["cached"] < CHUNKS * 256
        assert server.larder_metrics()["larder_corruptions_total"] == 1


def test_lmcache_within_the_engine_is_served_from_larder_after_a_restart(tmp_path):
    model = tmp_path / "model"
    run("model", model)
    reference = serve(model)

    directory = tmp_path / "kv"
    changes = {**store_at(directory), "max_local_cpu_size: 20": "max_local_cpu_size: 0.5"}
    (tmp_path / "lmcache.yaml").write_text(replaced(block_of("lmcache.md", "yaml"), changes))
    (words,) = commands_of("lmcache.md", "vllm serve .*LMCacheConnectorV1")
    # LMCache within the engine copies pages of accelerators only.
    transfer = option_of(words, "--kv-transfer-config") | {
        "kv_connector_module_path": "lmcache_on_cpu"
    }
    environment = {
        "LMCACHE_CONFIG_FILE": str(tmp_path / variable_of(words, "LMCACHE_CONFIG_FILE")),
        "LMCACHE_TRACK_USAGE": "false",
        "PYTHONHASHSEED": variable_of(words, "PYTHONHASHSEED"),
        "PYTHONPATH": python_path(HERE),
    }

    def live():
        return serve(model, transfer, **environment)

    first = live()
    assert (first["tokens"], first["cached"]) == (reference["tokens"], 0)
    with larder.open(directory) as opened:
        sizes = [size for _, size in opened.scan()]
    assert sizes == [256 * 2 * 4 * 128 * 2] * CHUNKS, "bytes alone"

    second = live()
    assert second["tokens"] == reference["tokens"]
    assert second["cached"] == CHUNKS * 256, "on the first request of the process"

    flip_one_byte_of_a_value(directory)
    third = live()
    assert third["tokens"] == reference["tokens"], "recomputed, not served wrong"
