"""larder.vllm under the real manager of tiers of a release of vLLM, for test_vllm_tier_contract.py.

    VLLM_TARGET_DEVICE=cpu PYTHONPATH=<a release's .py files> vllm_tier_contract.py DIRECTORY

Needs no compiled part of vLLM and no model: the scheduler's calls are made here, in its order, and
what a GPU would write is written into the host's rows. Prints "good: " and the names of the parts.
"""

import contextlib
import dataclasses
import inspect
import logging
import os
import pathlib
import random
import sys
import time

import vllm
from broken_stores import fault_of
from vllm.v1.kv_offload import base as offload
from vllm.v1.kv_offload import config as offload_config
from vllm.v1.kv_offload.base import LookupResult, ScheduleEndContext, make_offload_key
from vllm.v1.kv_offload.tiering.base import SecondaryTierManager
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec

PAGE = 65536
ROWS = 32
DEADLINE_S = 120  # Ends what hangs, and judges no speed.
MEMORY = "memory:?capacity=512MiB"

logs = []


class Kept(logging.Handler):
    def emit(self, record):
        logs.append((record.levelname, record.getMessage()))


def of(cls, **values):
    """An object of a dataclass of this release, with those of the values that it has."""
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in values.items() if name in names})


def config_of(tiers, engine, model="org/model", groups=1, **extra):
    return of(
        offload_config.OffloadingConfig,
        groups=tuple(
            of(
                offload_config.OffloadingGroupConfig,
                tokens_per_block=16,
                layer_names=(f"layer{index}",),
                group_id=index,
            )
            for index in range(groups)
        ),
        worker_kv_bytes_per_block=PAGE,
        enable_kv_cache_events=True,
        extra_config={
            "spec_name": "TieringOffloadingSpec",
            "cpu_bytes_to_use": ROWS * PAGE,
            "secondary_tiers": tiers,
            **extra,
        },
        engine_id=engine,
        model=of(offload_config.OffloadingModelConfig, name=model, dtype="bfloat16"),
        cache=of(offload_config.OffloadingCacheConfig, tokens_per_hash=16, blocks_per_chunk=1),
        parallel=of(
            offload_config.OffloadingParallelConfig,
            rank=0,
            world_size=1,
            tp_size=1,
            pp_size=1,
            pcp_size=1,
            dcp_size=1,
            data_parallel_index=0,
            data_parallel_size=1,
            data_parallel_rank_local=None,
            is_parallelism_agnostic=False,
        ),
        replicated_layout=False,
        canonical_layout=False,
        kv_cache_layout="NHD",
    )


class Engine:
    """What the scheduler does with the manager."""

    _count = 0

    def __init__(self, url, tier=None, **extra):
        Engine._count += 1
        given = {"type": "LarderTier", "module_path": "larder.vllm", "url": url, **(tier or {})}
        name = f"larder_test_{os.getpid()}_{Engine._count}"
        config = config_of([given], name, **extra)
        self.definitions = TieringOffloadingSpec.build_metric_definitions(config.extra_config)
        self.spec = TieringOffloadingSpec(config)
        self.manager = self.spec.get_manager()
        self.view = self.manager.primary_tier.get_kv_memoryview()
        self.file = pathlib.Path(f"/dev/shm/vllm_offload_{name}.mmap")
        assert self.file.exists()
        (self.tier,) = self.manager.secondary_tiers
        self.loads = 0
        submit = self.tier.submit_load

        def counting(job):
            self.loads += 1
            submit(job)

        self.tier.submit_load = counting

    @contextlib.contextmanager
    def request(self, name, **given):
        context = offload.ReqContext(req_id=name, **given)
        self.policy = self.manager.on_new_request(context).policy
        yield context
        self.manager.on_request_finished(context)
        self.settle()

    def step(self, new=()):
        self.manager.on_schedule_end(ScheduleEndContext(new, ()))

    def settle(self):
        self.until(lambda: not self.manager.has_pending_work(), "all work has ended")

    def until(self, condition, what):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
            self.step()
            time.sleep(0.001)

    def reset(self):
        self.manager.reset_cache()
        if hasattr(self.manager, "on_reset_flushed"):  # From 0.33 on.
            self.manager.on_reset_flushed()

    def row(self, number):
        stride = self.view.strides[0]
        return self.view.cast("B")[number * stride : number * stride + PAGE]

    def store(self, context, keys):
        output = self.manager.prepare_store(keys, context)
        for key, row in zip(output.keys_to_store, output.store_spec.block_ids):
            self.row(int(row))[:] = value_of(key)
        self.manager.complete_store(output.keys_to_store, context)

    def hits(self, context, keys):
        """Leading keys that could be loaded, when nothing is pending any more."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found, is_pending = 0, False
            for key in keys:
                result = self.manager.lookup(key, context)
                if result is LookupResult.MISS:
                    break
                is_pending |= result is not LookupResult.HIT
                found += 1
            if not is_pending:
                self.step([context.req_id])
                return found
            self.step()
            assert time.monotonic() < deadline, "a request that is not served"
            time.sleep(0.001)

    def check(self, context, keys):
        """As a GPU would read them."""
        rows = self.manager.prepare_load(keys, context).block_ids
        for key, row in zip(keys, rows):
            assert self.row(int(row)) == value_of(key), "other bytes than were stored"
        self.manager.complete_load(keys, context)

    def close(self):
        self.view = None
        self.manager.shutdown()
        assert not self.file.exists(), "an export of the host's memory was left"


@contextlib.contextmanager
def engine_of(url, tier=None, **extra):
    engine = Engine(url, tier, **extra)
    yield engine
    engine.close()


def value_of(key):
    return random.Random(bytes(key)).randbytes(PAGE)


def keys_of(count, name="a", groups=1):
    return [
        make_offload_key(f"{name}{number:06d}".encode().ljust(32, b"."), group)
        for number in range(count)
        for group in range(groups)
    ]


def part_restart(directory):
    url, keys = f"log:{directory}/kv?capacity=512MiB", keys_of(12, groups=2)
    revision = {"revision": "r1"}
    with engine_of(url, revision, groups=2) as engine:
        with engine.request("cold") as context:
            assert engine.hits(context, keys) == 0
            engine.store(context, keys)
        engine.reset()
        with engine.request("warm") as context:
            assert engine.hits(context, keys) == len(keys)
            engine.check(context, keys)
    with engine_of(url, revision, groups=2) as engine:
        with engine.request("restarted") as context:
            assert engine.hits(context, keys) == len(keys)
            engine.check(context, keys)
        assert engine.loads == 1, "one job for all chunks of a request"
    for tier, other in (({"revision": "r2"}, {}), (revision, {"model": "org/other"})):
        with engine_of(url, tier, **{"groups": 2, **other}) as engine:
            with engine.request("foreign") as context:
                assert engine.hits(context, keys) == 0, (tier, other)


def part_asynchronous_lookups(directory):
    """A store that cannot say at once: the first answer is RETRY, and keys are asked together."""
    url, keys = f"fs:{directory}/files?capacity=512MiB&min_free=0", keys_of(20)
    with engine_of(url) as engine:
        with engine.request("cold") as context:
            engine.store(context, keys)
        engine.reset()
        with engine.request("warm") as context:
            assert {engine.manager.lookup(key, context) for key in keys} == {LookupResult.RETRY}
            assert engine.hits(context, keys) == 20
            engine.check(context, keys)


def part_failed_loads(directory):
    for rate in ({"pattern": "get:5"}, {}):
        url = fault_of(MEMORY, **{"error_rate": 1, "pattern": "get:*", **rate})
        with engine_of(url) as engine:
            keys = keys_of(10)
            with engine.request("cold") as context:
                engine.store(context, keys)
            engine.reset()
            with engine.request("warm") as context:
                found = engine.hits(context, keys)
                assert found == (4 if rate else 0), found
                engine.check(context, keys[:found])
            assert engine.loads < 5, "a request that is loaded for ever"


def part_stalled(directory):
    for pattern in ("get", "set", "exists"):
        url = fault_of(MEMORY, stall_rate=1, stall="10m", pattern=f"{pattern}:*")
        short = {"get": "load", "set": "store", "exists": "lookup"}[pattern]
        limits = {f"{name}_timeout": DEADLINE_S for name in ("lookup", "load", "store")}
        limits[f"{short}_timeout"] = 0.3
        with engine_of(url, limits) as engine:
            keys = keys_of(6)
            with engine.request("cold") as context:
                engine.store(context, keys)
            engine.reset()
            with engine.request("warm") as context:
                assert engine.hits(context, keys) == (6 if pattern == "exists" else 0)


def part_no_store(directory):
    """A tier that cannot be made is no tier, and the log says so once."""
    for wrong in ({"url": "lgo:/nowhere"}, {"url": "memory:", "revision": 3}, {"load_timeout": -1}):
        logs.clear()
        with engine_of("memory:", wrong) as engine:
            keys = keys_of(6)
            with engine.request("served") as context:
                assert engine.hits(context, keys) == 0
                engine.store(context, keys)
            assert engine.hits(offload.ReqContext("x"), []) == 0
        told = [text for level, text in logs if level == "ERROR" and "goes on without it" in text]
        assert len(told) == 1, logs


def part_larger_than_the_host(directory):
    """Requests that do not fit together are served one after another, and one that is larger than
    the host's memory gets what fits."""
    url = f"log:{directory}/large?capacity=512MiB"
    wanted = {f"user{number}": keys_of(ROWS // 2, f"user{number}-") for number in range(6)}
    with engine_of(url, {"room_timeout": 30}) as engine:
        for name, keys in wanted.items():
            with engine.request(name) as context:
                engine.store(context, keys)
        engine.reset()
        contexts = {name: offload.ReqContext(f"again-{name}") for name in wanted}
        for context in contexts.values():
            engine.manager.on_new_request(context)
        waiting, deadline = dict(contexts), time.monotonic() + DEADLINE_S
        while waiting:  # As the scheduler: all that wait are looked at in each step.
            assert time.monotonic() < deadline, "requests that are not served"
            began = []
            for name, context in list(waiting.items()):
                results = [engine.manager.lookup(key, context) for key in wanted[name]]
                if set(results) == {LookupResult.HIT}:
                    engine.check(context, wanted[name])
                    began.append(context.req_id)
                    del waiting[name]
                assert LookupResult.MISS not in results, "recomputed for want of room"
            engine.step(began)
            time.sleep(0.001)
        for context in contexts.values():
            engine.manager.on_request_finished(context)
        engine.settle()
        large = keys_of(2 * ROWS, "large")
        for begin in range(0, len(large), 16):
            with engine.request(f"part{begin}") as context:
                engine.store(context, large[begin : begin + 16])
        engine.reset()
        with engine.request("large") as context:
            found = engine.hits(context, large)
            assert ROWS * 3 // 4 <= found <= ROWS, found
            engine.check(context, large[:found])


def part_what_vllm_asks(directory):
    url = f"log:{directory}/asked?capacity=512MiB&events=1000"
    with engine_of(url, {"enable_kv_events": True, "locality": "LOCAL"}) as engine:
        keys = keys_of(5)
        with engine.request("one") as context:
            engine.store(context, keys)
        stored = [event for event in engine.tier.take_events() if not event.removed]
        assert [list(event.keys) for event in stored] == [keys]
        assert stored[0].medium is offload.Medium.STORAGE
        assert list(engine.tier.take_events()) == []
        prefix = engine.tier._chunks.prefix
        engine.tier._chunks.client.delete_prefix(prefix)
        removed = [event for event in engine.tier.take_events() if event.removed]
        assert sorted(key for event in removed for key in event.keys) == sorted(keys)
        stats = engine.tier.get_stats()
        names = {name for name in engine.definitions if "larder" in name}
        values = stats.reduce()
        assert values["vllm:kv_offload_larder_chunks:('stored',)"] == 5, values
        assert {name.split(":(")[0] for name in values} <= names, "a metric that is not defined"
        assert values["vllm:kv_offload_larder_down"] == 0
        if hasattr(engine.spec, "config_info_keys"):
            assert set(engine.tier.config_info()) == set(engine.tier.config_info_keys({}))
        engine.tier.touch(keys, offload.ReqContext("one"))


def part_hints(directory):
    if "kv_hints" not in {field.name for field in dataclasses.fields(offload.ReqContext)}:
        return  # Before 0.32.
    from vllm.v1.kv_hints import KvHintAction, KvHintsEnvelope

    def hints(kind, **payload):
        return {"kv_hints": KvHintsEnvelope("0.1", "m", [KvHintAction("a", kind, "1.0", payload)])}

    def retained():
        return engine.tier._chunks.client.report().counters["retained_keys"]

    with engine_of(f"log:{directory}/hints?capacity=512MiB") as engine:
        keys = keys_of(9)
        with engine.request("before") as context:
            engine.store(context, keys[:6])
            assert engine.policy is offload.OffloadPolicy.CHUNK_LEVEL
        with engine.request("retained", **hints("kv.retain", ttl_seconds=600)) as context:
            assert engine.policy is offload.OffloadPolicy.REQUEST_LEVEL
            # Six of these are in vLLM's memory, where a lookup never asks the tier.
            assert engine.hits(context, keys) == 6
            engine.store(context, keys)
        engine.until(lambda: retained() == 9, "nine chunks are retained")
        assert engine.tier._tally.get("chunks", "existed") == 6
        engine.reset()
        with engine.request("released", **hints("kv.release")) as context:
            assert engine.hits(context, keys[:4]) == 4
        engine.until(lambda: retained() == 5, "four of them are released")


def part_back_pressure(directory):
    if "backpressure_detector" not in inspect.signature(SecondaryTierManager.__init__).parameters:
        return  # Before 0.31.
    detector = {"backpressure_cls": "EMABackpressureDetector"}
    with engine_of("memory:?capacity=64MiB", {"backpressure": detector}) as engine:
        assert engine.tier.bp_detector is not None
        with engine.request("one") as context:
            engine.store(context, keys_of(5))


def part_errors_stay_inside(directory):
    """Whatever breaks within the tier, the manager never hears of it."""
    with engine_of("memory:?capacity=64MiB") as engine:
        keys = keys_of(4)
        with engine.request("one") as context:
            engine.store(context, keys)

        def broken(*arguments, **named):
            raise RuntimeError("broken for the test")

        chunks = engine.tier._chunks
        for name in ("lookup", "end_step", "end_request", "touch", "submit_load", "submit_store"):
            setattr(chunks, name, broken)
        logs.clear()
        engine.reset()
        with engine.request("two") as context:
            assert engine.hits(context, keys) == 0
            engine.store(context, keys_of(4, "b"))
        warned = [text for level, text in logs if level == "WARNING" and "larder" in text]
        assert any("lookup has failed" in text for text in warned), logs
        assert len([text for text in warned if "lookup has failed" in text]) == 1


def main():
    directory = sys.argv[1]
    logging.getLogger("vllm").addHandler(Kept())
    parts = [value for name, value in sorted(globals().items()) if name.startswith("part_")]
    for part in parts:
        part(directory)
        print("passed", part.__name__, flush=True)
    print(f"good: vllm {vllm.__version__}, {len(parts)} parts", flush=True)


if __name__ == "__main__":
    main()
