"""larder as the remote store of LMCache that runs within the engine: the real LMCacheEngine of each
release that is unpacked, in processes of its own. tests/interop/test_vllm.py has vLLM around it."""

import json
import pathlib
import re
import subprocess
import sys

import pytest
from broken_stores import flip_one_byte_of_a_value
from mp_server import STOCK, environment_of, require

HERE = pathlib.Path(__file__).parent
CHUNK = 256
PROMPT = 5 * CHUNK + 100  # Five full chunks, and one that is none.
FULL = [2, 4, CHUNK, 128]
LOG = "log:{directory}?capacity=512MiB&min_free=0"


@pytest.fixture(params=list(STOCK))
def release(request):
    require(request.param)
    return request.param


def configuration(path, *, extra="", class_name="RemoteConnector", **parameters):
    lines = [
        "chunk_size: 256",
        "local_cpu: false",
        "max_local_cpu_size: 0.05",
        "save_unfull_chunk: true",
        'remote_storage_plugins: ["larder"]',
        *extra.splitlines(),
        "extra_config:",
        "  remote_storage_plugin.larder.module_path: larder.lmcache",
        f"  remote_storage_plugin.larder.class_name: {class_name}",
    ]
    lines += [
        f"  remote_storage_plugin.larder.{name}: {json.dumps(value)}"
        for name, value in parameters.items()
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def live(tmp_path, release, config, steps, chunk_tokens=CHUNK):
    """What each step of a process gave, and what was logged."""
    path = tmp_path / "steps.json"
    path.write_text(json.dumps(steps))
    ended = subprocess.run(
        [sys.executable, HERE / "lmcache_engine.py", config, path, str(chunk_tokens)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={
            **environment_of(release),
            "PYTHONHASHSEED": "0",
            "LMCACHE_TRACK_USAGE": "false",
        },
    )
    log = ended.stdout + ended.stderr
    assert ended.returncode == 0, log[-4000:]
    line = next(line for line in ended.stdout.splitlines() if line.startswith('{"results"'))
    return json.loads(line)["results"], log


def test_a_prompt_survives_the_process_and_a_flipped_byte_is_a_miss(tmp_path, release):
    config = configuration(tmp_path / "lmcache.yaml", url=LOG.format(directory=tmp_path / "kv"))
    results, _ = live(
        tmp_path,
        release,
        config,
        [
            ["connection"],
            ["lookup", 1, PROMPT],
            ["store", 1, PROMPT, 6],
            ["copied"],
            ["lookup", 1, PROMPT],
            ["lookup", 2, PROMPT],
            ["ping"],
            ["settle"],
        ],
    )
    copied = results.pop(3)
    assert results == ["RemoteConnector", 0, 6, PROMPT, 0, 0, 0]
    partial = 100 * 2 * 4 * 128 * 2
    assert partial < copied < partial + 256, "of all chunks only the one that is not full"

    (found, prompt, chunks, shapes, keys, left), _ = live(
        tmp_path,
        release,
        config,
        [
            ["lookup", 1, PROMPT],
            ["retrieve", 1, PROMPT],
            ["non_blocking", 1, PROMPT],
            ["each", 1, PROMPT],
            ["list"],
            ["settle"],
        ],
    )
    assert found == PROMPT
    assert (prompt["tokens"], prompt["equal"]) == (PROMPT, True)
    assert chunks == {"found": 6, "loaded": 6, "equal": True}
    assert shapes == [FULL] * 5 + [[2, 4, 100, 128]]
    assert len(keys) == 6 and all(key.startswith("llama/tiny@1@0@") for key in keys)
    assert left == 0, "all memory was given back"

    flip_one_byte_of_a_value(tmp_path / "kv")
    (prompt, again, status, stored, whole, left), log = live(
        tmp_path,
        release,
        config,
        [
            ["retrieve", 1, PROMPT],
            ["lookup", 1, PROMPT],
            ["status"],
            ["store", 1, PROMPT, 6],
            ["retrieve", 1, PROMPT],
            ["settle"],
        ],
    )
    lost = PROMPT - prompt["tokens"]
    assert lost and lost % CHUNK == 100 % CHUNK or prompt["tokens"] == 0
    assert prompt["equal"], "what was not proven was not handed out"
    assert again == prompt["tokens"], "and is a miss from then on"
    assert status["errors"] == {"load (corruption)": 1}
    assert "load (corruption)" in log
    assert stored == 6 and (whole["tokens"], whole["equal"]) == (PROMPT, True)
    assert left == 0


def test_asynchronous_loading_and_layers(tmp_path, release):
    config = configuration(
        tmp_path / "lmcache.yaml",
        url=LOG.format(directory=tmp_path / "kv"),
        extra="enable_async_loading: true",
    )
    results, _ = live(
        tmp_path,
        release,
        config,
        [
            ["store", 1, PROMPT, 6],
            ["prefetch", 1, PROMPT],
            ["prefetch", 2, PROMPT],
            ["remove", 1, PROMPT, 3],
            ["prefetch", 1, PROMPT],
            ["layers", 5, CHUNK],
            ["layers", 6, 100],
            ["settle"],
        ],
    )
    assert results[1]["told"] == results[1]["tokens"] == PROMPT and results[1]["equal"]
    assert results[4]["told"] == results[4]["tokens"] == 3 * CHUNK and results[4]["equal"]
    assert results[2]["told"] == results[2]["tokens"] == 0
    assert results[5] == results[6] == {"found": 4, "equal": [True] * 4}
    assert results[7] == 0


def test_a_hole_ends_the_prefix_and_nothing_else(tmp_path, release):
    config = configuration(tmp_path / "lmcache.yaml", url="memory:?capacity=256MiB")
    results, _ = live(
        tmp_path,
        release,
        config,
        [
            ["store", 1, PROMPT, 6],
            ["remove", 1, PROMPT, 2],
            ["remove", 1, PROMPT, 2],
            ["lookup", 1, PROMPT],
            ["retrieve", 1, PROMPT],
            ["non_blocking", 1, PROMPT],
            ["each", 1, PROMPT],
            ["settle"],
        ],
    )
    assert results[:4] == [6, True, False, 2 * CHUNK]
    assert (results[4]["tokens"], results[4]["equal"]) == (2 * CHUNK, True)
    assert results[5] == {"found": 2, "loaded": 2, "equal": True}
    assert results[6] == [FULL, FULL, None, FULL, FULL, [2, 4, 100, 128]]
    assert results[7] == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "log:/proc/none?capacity=1GiB"}, "remote connection: .*/proc/none"),
        ({"url": "memory:?capazity=1GiB"}, "remote connection: .*did you mean 'capacity'"),
        ({"capacity": "1GiB"}, "remote connection: .*neither remote_storage_plugin.larder.url nor"),
        ({"url": "memory:", "load_timeout": -1}, "remote connection: .*load_timeout: -1"),
        *(
            (
                {"class_name": name, "url": "memory:"},
                f"class {name} is neither a ConnectorAdapter nor a RemoteConnector subclass",
            )
            for name in ("Connector", "ConnectorClient")
        ),
    ],
    ids=[
        "no directory",
        "no parameter",
        "no store",
        "no time",
        "the server's class",
        "asyncio's class",
    ],
)
def test_an_engine_without_a_store_goes_on_and_is_told_why(tmp_path, given, said):
    config = configuration(tmp_path / "lmcache.yaml", **given)
    results, log = live(
        tmp_path,
        next(iter(STOCK)),
        config,
        [["connection"], ["store_only", 1, PROMPT], ["lookup", 1, PROMPT], ["retrieve", 1, PROMPT]],
    )
    assert results[0] is None and results[2] == 0 and results[3]["tokens"] == 0
    assert re.search(said, log), log[-3000:]


def test_after_the_end_every_call_is_a_miss(tmp_path, release):
    config = configuration(tmp_path / "lmcache.yaml", url="memory:?capacity=256MiB")
    results, _ = live(tmp_path, release, config, [["store", 1, CHUNK, 1], ["close_connector"]])
    assert results[1] == [False, False, None, [], False, [], 1, None]


def test_a_store_that_stalls_keeps_nobody(tmp_path, release):
    config = configuration(
        tmp_path / "lmcache.yaml",
        type="fault",
        inner="memory:?capacity=256MiB",
        stall_rate=1,
        stall="100s",
        pattern="get:*",
        load_timeout=1,
    )
    results, log = live(
        tmp_path,
        release,
        config,
        [["store", 1, PROMPT, 6], ["retrieve", 1, PROMPT], ["settle"], ["status"]],
    )
    assert results[1]["tokens"] == 0 and results[1]["equal"]
    assert results[1]["seconds"] < 8, "before LMCache's own time-out"
    assert results[2] == 0
    assert results[3]["errors"] == {"load (deadline_exceeded)": 6}
    assert "get blocking timeout" not in log


def test_memory_that_is_written_to_late_is_not_given_back_early(tmp_path, release):
    """A load that the backend cannot end comes back when it wants; the caller has gone by then."""
    config = configuration(
        tmp_path / "lmcache.yaml", url="python:late_store:LateStore?seconds=4", load_timeout=0.5
    )
    results, _ = live(
        tmp_path,
        release,
        config,
        [
            ["store", 1, CHUNK, 1],
            ["retrieve", 1, CHUNK],
            ["allocations"],
            ["settle"],
            ["status"],
        ],
    )
    assert results[1]["tokens"] == 0 and results[1]["seconds"] < 3
    assert results[2] == 1, "the late bytes have a place of their own"
    assert results[3] == 0, "until they have come"
    assert results[4]["errors"] == {"load (late)": 1}


def test_a_load_that_is_cancelled_keeps_its_memory_until_the_store_is_done(tmp_path, release):
    config = configuration(
        tmp_path / "lmcache.yaml", url="python:late_store:LateStore?seconds=2", load_timeout=5
    )
    results, _ = live(
        tmp_path,
        release,
        config,
        [["store", 1, CHUNK, 1], ["cancelled_load", 1, CHUNK, 0.3], ["settle"]],
    )
    assert results == [1, 1, 0]


def test_what_lmcache_has_no_memory_for_is_a_miss(tmp_path, release):
    config = configuration(tmp_path / "lmcache.yaml", url="memory:?capacity=256MiB")
    results, log = live(
        tmp_path,
        release,
        config,
        [
            ["store", 1, PROMPT, 6],
            ["settle"],
            ["fill", 2],
            ["retrieve", 1, PROMPT],
            ["lookup", 1, PROMPT],
        ],
    )
    assert (results[3]["tokens"], results[3]["equal"]) == (2 * CHUNK, True)
    assert results[4] == PROMPT
    assert "max_local_cpu_size" in log


def test_a_value_of_another_program_is_removed_and_stored_again(tmp_path, release):
    config = configuration(tmp_path / "lmcache.yaml", url="memory:?capacity=256MiB")
    results, log = live(
        tmp_path,
        release,
        config,
        [
            ["store", 1, PROMPT, 6],
            ["put_raw", 1, PROMPT, 1, "not of LMCache, and not of its size"],
            ["retrieve", 1, PROMPT],
            ["lookup", 1, PROMPT],
            ["store", 1, PROMPT, 6],
            ["retrieve", 1, PROMPT],
            ["settle"],
            ["put_raw", 1, PROMPT, 0, "x" * (3 << 20)],
            ["retrieve", 1, PROMPT],
            ["lookup", 1, PROMPT],
        ],
    )
    assert (results[8]["tokens"], results[9]) == (0, 0), "nor is memory given up for a large one"
    assert (results[2]["tokens"], results[2]["equal"]) == (CHUNK, True)
    assert results[3] == CHUNK
    assert (results[5]["tokens"], results[5]["equal"]) == (PROMPT, True)
    assert "unusable value" in log
    assert results[6] == 0


def test_another_chunk_size_never_takes_a_chunk_for_one_of_its_own(tmp_path, release):
    """The first chunk of 256 tokens and the first partial one of 256 of another size share a key."""
    directory = tmp_path / "kv"
    config = configuration(tmp_path / "lmcache.yaml", url=LOG.format(directory=directory))
    live(tmp_path, release, config, [["store", 1, CHUNK, 1]])
    larger = tmp_path / "larger.yaml"
    larger.write_text(config.read_text().replace("chunk_size: 256", "chunk_size: 512"))
    results, _ = live(
        tmp_path, release, larger, [["lookup", 1, CHUNK], ["retrieve", 1, CHUNK], ["settle"]], 512
    )
    assert results[0] == CHUNK
    assert results[1]["equal"], "what the value is cannot be known, and it is not guessed"
    assert results[2] == 0
