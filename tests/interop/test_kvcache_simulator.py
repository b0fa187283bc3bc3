"""`larder size` against an independent program: KVCache.AI's kvcache-simulator, from PyPI.

The two agree block by block on LRU and on the optimum. They count differently in these places, which
the tests make equal or leave out:

- kvcache-simulator counts tokens, larder blocks: each block gets a weight of one token here.
- It counts hits behind a warm-up only: half of the requests here, with --warmup 50%. It gives no
  result for caches that are not full by then.
- To it a block is an id behind its prefix, to larder an id. In a trace whose ids stand for whole
  prefixes that is the same; in any other, larder notes that its optimum is an upper bound.
- Its LRU makes room for a block of a request that is longer than the cache by evicting the block
  before it, of the same request, and then stores neither. larder keeps as many of the first blocks
  as fit. So LRU is the same from the longest request's size up, and below that larder's hits at
  least as much. The optimum is the same at every size.
- Its FIFO stores the first block of a request first, so that heads leave before tails. larder's
  stores the last block first, as the engine does. FIFO is not compared.
"""

import gzip
import itertools
import json
import os
import pathlib
import random
import subprocess

import pytest
from mp_server import LARDER

REPOSITORY = pathlib.Path(__file__).parents[2]
CONVERSATION = REPOSITORY / "bench/data/mooncake_conversation_trace.jsonl.zst"
TRACES = pathlib.Path(os.environ.get("LARDER_TRACES", REPOSITORY / "shared/data/traces"))
BLOCK_BYTES = 4096
COLUMNS = {"lru": "LRU", "optimal": "optimum"}

trace_module = pytest.importorskip(
    "kvcache_sim.trace", reason="SKIPPED (needs the package kvcache-simulator)"
)


@pytest.fixture(autouse=True)
def larder_is_built():
    if not LARDER.exists():
        pytest.skip(f"SKIPPED (no {LARDER}: build the target larder, or set LARDER_BINARY)")


def lines_of(path):
    """Of a trace; the command zstd reads those that it packed."""
    if path.suffix == ".zst":
        return subprocess.run(
            ["zstdcat", path], capture_output=True, text=True, check=True
        ).stdout.splitlines()
    return path.read_text().splitlines()


def weighted(line):
    """The line with one token a block."""
    request = json.loads(line)
    request["block_tokens"] = [1] * len(request["hash_ids"])
    return json.dumps(request)


def sizes_of(path, capacities, *arguments):
    ended = subprocess.run(
        [
            LARDER,
            "size",
            path,
            "--json",
            "--quiet",
            "--warmup=50%",
            "--policies=LRU",
            f"--block-bytes={BLOCK_BYTES}",
            "--capacities=" + ",".join(str(blocks * BLOCK_BYTES) for blocks in capacities),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def simulated(trace, capacities):
    """By policy and capacity, from the package's program in C++; that in Python is for small ones."""
    from kvcache_sim.cpp_backend import run_cpp_sweep

    return run_cpp_sweep(
        trace,
        capacities=list(capacities),
        policies=list(COLUMNS),
        warmup_requests=trace.request_count // 2,
    ).results


def expect_equal(size, trace, results, capacities):
    """Returns how many pairs were compared."""
    assert size["is_optimum_exact"]
    assert [point["capacity_blocks"] for point in size["sizes"]] == sorted(capacities)
    begins = trace.request_starts
    longest = max(end - begin for begin, end in itertools.pairwise(begins))
    compared = 0
    for point in size["sizes"]:
        capacity = point["capacity_blocks"]
        for policy, column in COLUMNS.items():
            result = results[policy, capacity]
            if result.measurementMode == "underfilled_at_window":
                continue
            assert result.totalTokens == size["blocks"]
            hits = point["policies"][column]["hit_blocks"]
            if policy == "lru" and capacity < longest:
                assert hits >= result.hitTokens, f"{column} at {capacity} blocks"
                continue
            assert hits == result.hitTokens, f"{column} at {capacity} blocks"
            compared += 1
    return compared


def expect_agreement(path, capacities):
    trace = trace_module.parse_trace_lines(map(weighted, lines_of(path)), block_size=512)
    results = simulated(trace, capacities)
    return expect_equal(sizes_of(path, capacities), trace, results, capacities)


def test_on_the_conversation_trace_both_count_the_same():
    capacities = [1000, 2000, 3000, 5000, 10_000, 20_000, 30_000, 50_000]
    assert expect_agreement(CONVERSATION, capacities) == 16, "all are full in time"


def real_traces():
    return sorted(TRACES.glob("*.zst")) if TRACES.is_dir() else []


@pytest.mark.parametrize("path", real_traces() or [None], ids=lambda path: path and path.stem)
def test_on_traces_that_are_there_both_count_the_same(path):
    if path is None:
        pytest.skip("SKIPPED (needs traces, *.zst, in the directory LARDER_TRACES)")
    blocks = len({one for line in lines_of(path) for one in json.loads(line)["hash_ids"]})
    capacities = [blocks // share for share in (500, 200, 100, 50, 20, 10, 5)]
    assert expect_agreement(path, capacities) >= 7


def random_tree(seed, requests=400, nodes=150):
    """Requests that are paths from the root of a tree; a node is a block."""
    rng = random.Random(seed)
    paths = []
    for node in range(nodes):
        before = [] if not paths or rng.random() < 0.2 else rng.choice(paths)
        paths.append([*before, node])
    return [rng.choice(paths) for _ in range(requests)]


@pytest.mark.parametrize("seed", range(12))
def test_on_random_trees_both_count_the_same_at_every_size(tmp_path, seed):
    from kvcache_sim.plan import build_execution_plan
    from kvcache_sim.policies import simulate_policy

    path = tmp_path / "trace.jsonl.gz"
    # The last half has blocks of its own, so that a cache of any size misses something.
    chains = [*random_tree(seed), [1_000_000]]
    with gzip.open(path, "wt") as file:
        for chain in chains:
            file.write(
                json.dumps({"block_size": 16, "input_length": 16 * len(chain), "hash_ids": chain})
                + "\n"
            )
    with gzip.open(path, "rt") as file:
        trace = trace_module.parse_trace_lines(map(weighted, file))
    plan = build_execution_plan(trace, warmup_fraction=0.5)
    capacities = list(range(1, 120, 3))
    results = {
        (policy, capacity): simulate_policy(plan, policy, capacity)
        for policy in COLUMNS
        for capacity in capacities
    }
    assert expect_equal(sizes_of(path, capacities), trace, results, capacities) > 40
