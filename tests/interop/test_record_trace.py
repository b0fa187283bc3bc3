"""The recorder of traces (examples/record_trace.py) on what LMCache's own logger writes and on what
vLLM's own publisher sends. python/tests/test_record_trace.py has the rest."""

import importlib.util
import json
import pathlib
import socket
import subprocess
import sys
import threading

import pytest
from mp_server import LARDER

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def load_script():
    spec = importlib.util.spec_from_file_location("record_trace", EXAMPLES / "record_trace.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record_trace = load_script()


class Lines(list):
    write = list.append

    def parsed(self):
        return [json.loads(line) for line in self]

    def ids(self):
        return [line["hash_ids"] for line in self.parsed()]


def hash_of(number):
    return bytes([number]) * 32


# ---- LMCache's log of lookups.


def lookup_event(seconds, request, chunks, tokens):
    from lmcache.v1.mp_observability.event import Event, EventType

    return Event(
        event_type=EventType.MP_LOOKUP,
        timestamp=seconds,
        session_id=request,
        metadata={
            "request_id": request,
            "chunk_hashes": [hash_of(chunk) for chunk in chunks],
            "model_name": "model",
            "chunk_size": 256,
            "seq_len": tokens,
            "dtypes": ["bfloat16"],
            "shapes": [[32, 256, 128]],
        },
    )


def test_what_lmcache_logs_of_its_lookups_is_a_trace(tmp_path):
    logging = pytest.importorskip("lmcache.v1.mp_observability.subscribers.logging.lookup_hash")
    logs = tmp_path / "logs"
    config = logging.LookupHashLogConfig(output_dir=str(logs), rotation_max_size=300)
    subscriber = logging.LookupHashLoggingSubscriber(config)
    log = next(iter(subscriber.get_subscriptions().values()))
    for seconds, request, chunks, tokens in [
        (1711929600.5, "a", [1, 2], 600),
        (1711929601.0, "b", [1, 2, 3], 768),
        (1711929602.0, "c", [4], 256),
        (1711929603.0, "d", [1, 2], 512),
    ]:
        log(lookup_event(seconds, request, chunks, tokens))
    subscriber.shutdown()
    assert len(list(logs.iterdir())) > 1, "the log goes on in another file"

    trace = tmp_path / "trace.jsonl.gz"
    ended = subprocess.run(
        [sys.executable, EXAMPLES / "record_trace.py", "lookups", logs, "-o", trace],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    if not LARDER.exists():
        pytest.skip(f"SKIPPED (no {LARDER}: build the target larder, or set LARDER_BINARY)")
    ended = subprocess.run(
        [LARDER, "size", trace, "--json", "--quiet"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    size = json.loads(ended.stdout)
    assert size["requests"] == 4
    assert size["blocks"] == 8
    assert size["distinct_blocks"] == 4
    assert size["block_tokens"] == 256
    assert size["unbounded"]["hit_blocks"] == 4
    assert size["notes"] == []


# ---- vLLM's publisher.


@pytest.fixture
def kv_events():
    return pytest.importorskip("vllm.distributed.kv_events", reason="SKIPPED (needs vLLM)")


def stored(kv_events, numbers, parent=None, **fields):
    values = {
        "block_hashes": [hash_of(number) for number in numbers],
        "parent_block_hash": None if parent is None else hash_of(parent),
        "token_ids": list(range(16 * len(numbers))),
        "block_size": 16,
        "lora_id": None,
        "medium": kv_events.MEDIUM_GPU,
        "lora_name": None,
        **fields,
    }
    return kv_events.BlockStored(**values)


def of_lmcache(kv_events, hashes, parent, tokens):
    """As LMCache's connector hands its own event on to vLLM's publisher."""
    from lmcache.utils import CacheStoreEvent

    event = CacheStoreEvent(
        block_hashes=hashes,
        parent_block_hash=parent,
        token_ids=tokens,
        block_size=256,
        lora_id=None,
        medium="CPU",
        lora_name=None,
    )
    return kv_events.BlockStored(
        block_hashes=event.block_hashes,
        parent_block_hash=event.parent_block_hash,
        token_ids=event.token_ids,
        block_size=event.block_size,
        lora_id=event.lora_id,
        medium=event.medium,
        lora_name=event.lora_name,
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def published(kv_events, batches, **options):
    """What the recorder makes of batches that vLLM's publisher sends."""
    port = free_port()
    publisher = kv_events.ZmqEventPublisher(
        data_parallel_rank=0, endpoint=f"tcp://*:{port}", topic="kv"
    )
    lines = Lines()
    recorder = record_trace.EventRecorder(record_trace.TraceWriter(lines), **options)
    seen = []
    first = threading.Event()
    last = threading.Event()
    handle = recorder.batch

    def batch(seconds, events, source):
        seen.append(seconds)
        first.set()
        if seconds > 0:
            handle(seconds, events, source)
        if seconds == batches[-1].ts:
            last.set()

    recorder.batch = batch
    thread = threading.Thread(
        target=record_trace.record_stream,
        args=([f"tcp://127.0.0.1:{port}"], recorder, "kv", 60, last.is_set),
    )
    thread.start()
    try:
        # A subscriber gets nothing until it is connected: batches without events until one came.
        while not first.wait(0.05) and thread.is_alive():
            publisher.publish(kv_events.KVEventBatch(ts=0.0, events=[]))
        for one in batches:
            publisher.publish(one)
        thread.join(60)
    finally:
        publisher.shutdown()
    assert last.is_set()
    recorder.finish()
    return lines, recorder.notes


def test_what_vllm_publishes_is_a_trace(kv_events):
    lines, notes = published(
        kv_events,
        [
            kv_events.KVEventBatch(ts=100.0, events=[stored(kv_events, [1, 2, 3])]),
            kv_events.KVEventBatch(ts=100.5, events=[stored(kv_events, [4], 3)]),
            kv_events.KVEventBatch(
                ts=200.0,
                events=[
                    kv_events.BlockRemoved(block_hashes=[hash_of(4)], medium="GPU"),
                    stored(kv_events, [5], 2, session_id="s"),
                ],
            ),
            kv_events.KVEventBatch(ts=300.0, events=[kv_events.AllBlocksCleared()]),
        ],
    )
    assert lines.ids() == [[0, 1, 2, 3], [0, 1, 4]]
    assert lines.parsed()[1] == {
        "timestamp": 200_000.0,
        "input_length": 48,
        "block_size": 16,
        "hash_ids": [0, 1, 4],
        "session_id": "s",
    }
    assert not notes


def test_events_of_lmcache_through_vllm_are_a_trace(kv_events):
    pytest.importorskip("lmcache.utils")
    chunks = [hash_of(number) for number in range(4)]
    lines, notes = published(
        kv_events,
        [
            kv_events.KVEventBatch(
                ts=100.0,
                events=[
                    stored(kv_events, [40, 41]),
                    *(
                        of_lmcache(kv_events, [chunk], parent, list(range(256)))
                        for parent, chunk in zip([None, *chunks], chunks, strict=False)
                    ),
                ],
            ),
            kv_events.KVEventBatch(
                ts=200.0, events=[of_lmcache(kv_events, [hash_of(9)], chunks[1], [0] * 256)]
            ),
        ],
        medium="CPU",
    )
    assert lines.ids() == [[0, 1, 2, 3], [0, 1, 4]]
    assert lines.parsed()[0]["input_length"] == 1024
    assert notes == {"events ignored: medium 'GPU', blocks of 16, group 0": 1}
