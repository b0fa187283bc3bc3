"""End to end: an unmodified vLLM and an unmodified LMCache server, both restarted, and a prompt whose
prefix comes from larder. Runs in the environment `engine` (scripts/python_env.sh)."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from broken_stores import flip_one_byte_of_a_value
from environments import VLLM_ON_CPUS, python_path
from l2_json import l2_of
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


def serve(model, server=None):
    return answer_of(run("serve", model, server.port if server else 0))


def answer_of(printed):
    return json.loads(next(line for line in printed.splitlines() if line.startswith('{"tokens"')))


def documented_configuration():
    """The block of docs/lmcache.md for LMCache within the engine."""
    page = (HERE.parents[1] / "docs/lmcache.md").read_text()
    return re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
def test_a_prompt_is_served_from_larder_after_both_were_restarted(tmp_path, form):
    model = tmp_path / "model"
    run("model", model)
    reference = serve(model)
    assert len(set(reference["tokens"])) > 4, "an output that wrong bytes would change"

    l2 = l2_of(form, url=f"log:{tmp_path}/kv?capacity=1GiB&max_value=4MiB&min_free=0")
    log = tmp_path / "server.log"
    with Server(l2, log, chunk_tokens=256) as server:
        first = serve(model, server)
        assert (first["tokens"], first["cached"]) == (reference["tokens"], 0)
        wait_for(lambda: server.larder_metrics().get("larder_keys") == CHUNKS, "the store to L2")

    with Server(l2, log, chunk_tokens=256) as server:
        second = serve(model, server)
        assert second["tokens"] == reference["tokens"]
        assert second["cached"] == CHUNKS * 256, "on the first request of both processes"
        assert server.larder_metrics()["larder_hits_total"] == CHUNKS

    flip_one_byte_of_a_value(tmp_path / "kv")
    with Server(l2, log, chunk_tokens=256) as server:
        third = serve(model, server)
        assert third["tokens"] == reference["tokens"], "recomputed, not served wrong"
        assert third["cached"] < CHUNKS * 256
        assert server.larder_metrics()["larder_corruptions_total"] == 1


def test_lmcache_within_the_engine_is_served_from_larder_after_a_restart(tmp_path):
    """As docs/lmcache.md says it, with a store and a memory for a small machine."""
    model = tmp_path / "model"
    run("model", model)
    reference = serve(model)

    directory = tmp_path / "kv"
    store = f"log:{directory}?capacity=1GiB&max_value=4MiB&min_free=0"
    config = documented_configuration()
    for documented, ours in [
        ("log:/data/kv?capacity=500GiB", store),
        ("max_local_cpu_size: 20", "max_local_cpu_size: 0.5"),
    ]:
        assert documented in config
        config = config.replace(documented, ours)
    (tmp_path / "lmcache.yaml").write_text(config)
    environment = {
        "LMCACHE_CONFIG_FILE": str(tmp_path / "lmcache.yaml"),
        "LMCACHE_TRACK_USAGE": "false",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": python_path(HERE),
    }

    def live():
        return answer_of(run("serve", model, "within", **environment))

    first = live()
    assert (first["tokens"], first["cached"]) == (reference["tokens"], 0)
    with larder.open(directory) as opened:
        assert [size for _, size in opened.scan()] == [
            256 * 2 * 4 * 128 * 2
        ] * CHUNKS, "bytes alone"

    second = live()
    assert second["tokens"] == reference["tokens"]
    assert second["cached"] == CHUNKS * 256, "on the first request of the process"

    flip_one_byte_of_a_value(directory)
    third = live()
    assert third["tokens"] == reference["tokens"], "recomputed, not served wrong"
