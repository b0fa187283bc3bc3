"""Makes a trace for `larder size` and `larder replay` of what LMCache or vLLM tell of their requests.

    python examples/record_trace.py lookups /var/log/lookup_hashes -o trace.jsonl.gz
    python examples/record_trace.py events tcp://localhost:5557 -o trace.jsonl.gz
    python examples/record_trace.py events batches.jsonl -o trace.jsonl.gz

lookups: the files that LMCache's server writes with --lookup-hash-log-dir DIR. They have each
request with all its full chunks, so the trace is exact. Prefer them where you can.

events: KV events as vLLM publishes them (--kv-events-config '{"enable_kv_cache_events": true,
"publisher": "zmq"}'), its own and those of LMCache's connector, from its ZMQ address until Ctrl-C,
SIGTERM or --seconds, or from a file with one batch of events in JSON a line. An event names blocks
that were stored and the block before them. The blocks from the first one on are taken as one
request; events that go on where a request ended belong to it within --merge-seconds. What events do
not tell: a request whose blocks are all there already, unless vLLM reports reused blocks, and where
a prompt ends and its answer begins.

A line of the trace has the request's time in milliseconds, its tokens in full blocks (of lookups:
all its tokens), the block size, the session if it is known, and a number for each block. The numbers
count blocks in the order in which they were seen; no token and no hash is in the trace.

Needs Python 3.10; for ZMQ addresses also pyzmq and msgspec, which vLLM brings along.
"""

import argparse
import collections
import contextlib
import gzip
import json
import pathlib
import signal
import sys
import time

REQUESTS_REMEMBERED = 10_000


class RecordError(Exception):
    """What was given cannot be recorded; the text is for people."""


class TraceWriter:
    """Writes requests as lines, and numbers their blocks."""

    def __init__(self, file):
        self._file = file
        self._numbers = {}
        self.requests = 0

    def write(self, seconds, hashes, block_size, tokens=None, session=None):
        numbers = [self._numbers.setdefault(one, len(self._numbers)) for one in hashes]
        line = {
            "timestamp": round(seconds * 1000, 3),
            "input_length": len(numbers) * block_size if tokens is None else tokens,
            "block_size": block_size,
            "hash_ids": numbers,
        }
        if session is not None:
            line["session_id"] = session
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
        self.requests += 1


# ---- LMCache's log of lookups.


def lookup_files(paths):
    """The files of the directories, and those named, in the order in which they were written."""
    files = []
    for path in map(pathlib.Path, paths):
        found = sorted(path.glob("lookup_hashes_*.jsonl")) if path.is_dir() else [path]
        if not found:
            raise RecordError(f"{path}: no lookup_hashes_*.jsonl in this directory")
        files += found
    return files


def read_lookup(line, place):
    try:
        lookup = json.loads(line)
        seconds = float(lookup["timestamp"])
        chunks = [str(one) for one in lookup["chunk_hashes"]]
        size, tokens = int(lookup["chunk_size"]), int(lookup["seq_len"])
    except (ValueError, KeyError, TypeError) as error:
        what = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise RecordError(f"{place}: not a line of LMCache's lookup log: {what}") from error
    if size < 1 or len(chunks) * size > tokens:
        raise RecordError(f"{place}: {len(chunks)} chunks of {size} tokens in {tokens} tokens")
    return lookup, seconds, chunks, size, tokens


def lookups_of(paths):
    """Each line as (place, lookup, seconds, chunks, chunk size, tokens)."""
    for path in lookup_files(paths):
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    place = f"{path}:{number}"
                    yield place, *read_lookup(line, place)


def record_lookups(paths, writer, model=None):
    """Returns notes on what was left out."""
    notes = collections.Counter()
    is_chosen = model is not None
    chunk_size = None
    last_chunks = collections.OrderedDict()  # Of the requests that were seen last.
    for place, lookup, seconds, chunks, size, tokens in lookups_of(paths):
        name = lookup.get("model_name", "")
        if model is None:
            model = name
        if name != model:
            if not is_chosen:
                raise RecordError(f"{place}: model {name!r} after {model!r}: choose with --model")
            notes["lookups of other models left out"] += 1
            continue
        chunk_size = chunk_size or size
        if size != chunk_size:
            raise RecordError(f"{place}: chunks of {size} tokens after those of {chunk_size}")
        request = lookup.get("request_id")
        if request and last_chunks.get(request) == chunks:
            notes["lookups that a waiting request repeated left out"] += 1
            continue
        last_chunks[request] = chunks
        if len(last_chunks) > REQUESTS_REMEMBERED:
            last_chunks.popitem(last=False)
        if tokens > 0:
            writer.write(seconds, chunks, size, tokens)
    return notes


# ---- KV events of vLLM and of LMCache's connector.

# The fields of BlockStored, in the order of vLLM's older form, in which an event is a list.
STORED_FIELDS = [
    "type",
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
]


class Request:
    """Blocks that events told of one request so far."""

    def __init__(self, seconds, hashes, session):
        self.begin = self.end = seconds
        self.hashes = hashes
        self.session = session
        self.is_written = False


class EventRecorder:
    """Makes requests of events, in the order in which they began."""

    def __init__(self, writer, merge_seconds=2.0, medium=None, block_size=None):
        self._writer = writer
        self._merge_seconds = merge_seconds
        self._medium = medium
        self._block_size = block_size
        self._group = None
        self._parents = {}  # By block: the block before it, None for a first one.
        self._requests = collections.deque()  # Not yet written, in order of their beginning.
        self._tips = {}  # By source, session and last block: the request that may go on there.
        self.notes = collections.Counter()

    def batch(self, seconds, events, source=""):
        self._write_ended(seconds)
        for event in events:
            if isinstance(event, (list, tuple)):
                event = dict(zip(STORED_FIELDS, event, strict=False))
            if event.get("type") == "BlockStored":
                self._stored(seconds, event, source)

    def finish(self):
        self._write_ended(float("inf"))

    def _is_wanted(self, event):
        """Events of one tier, of one size of blocks and of one group of layers: the first ones."""
        size = event.get("block_size") or 0
        if size < 1 or not event.get("block_hashes"):
            return False  # vLLM's offloading tells sizes of 0.
        medium = event.get("medium") or ""
        group = event.get("group_idx") or 0
        if self._medium is None:
            self._medium = medium
        if medium.lower() == self._medium.lower():
            if self._block_size is None:
                self._block_size = size
            if self._group is None and size == self._block_size:
                self._group = group
            if size == self._block_size and group == self._group:
                return True
        self.notes[f"events ignored: medium {medium!r}, blocks of {size}, group {group}"] += 1
        return False

    def _stored(self, seconds, event, source):
        if not self._is_wanted(event):
            return
        hashes = event["block_hashes"]
        parent = event.get("parent_block_hash")
        session = event.get("session_id")
        before = parent
        for one in hashes:
            self._parents.setdefault(one, before)
            before = one
        tip = (source, session, parent)
        request = self._tips.pop(tip, None) if parent is not None else None
        goes_on = request is not None and not request.is_written
        if goes_on and seconds - request.end <= self._merge_seconds:
            request.hashes.extend(hashes)
            request.end = max(request.end, seconds)
        else:
            request = Request(seconds, self._chain(parent) + list(hashes), session)
            self._requests.append(request)
        self._tips[source, session, hashes[-1]] = request

    def _chain(self, block):
        """All blocks up to this one, the first one first."""
        chain, seen = [], set()
        while block is not None and block not in seen:
            seen.add(block)
            chain.append(block)
            if block not in self._parents:
                self.notes["requests whose first blocks were stored before the recording"] += 1
            block = self._parents.get(block)
        return chain[::-1]

    def _write_ended(self, now):
        while self._requests and now - self._requests[0].end > self._merge_seconds:
            request = self._requests.popleft()
            request.is_written = True
            self._writer.write(
                request.begin, request.hashes, self._block_size, session=request.session
            )
        if len(self._tips) > 2 * len(self._requests) + 1000:
            self._tips = {tip: one for tip, one in self._tips.items() if not one.is_written}


def batches_of_file(path):
    """Batches as JSON: [seconds, events, ...] or {"ts": seconds, "events": [...]}."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                batch = json.loads(line)
                if isinstance(batch, dict):
                    batch = [batch["ts"], batch["events"]]
                yield float(batch[0]), list(batch[1])
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise RecordError(f"{path}:{number}: not a batch of KV events: {error}") from error


class Stream:
    """The batches that vLLM publishes at some addresses."""

    def __init__(self, addresses, topic=""):
        try:
            import msgspec
            import zmq
        except ImportError as error:
            raise RecordError(f"ZMQ addresses need pyzmq and msgspec: {error}") from error
        self._decode = msgspec.msgpack.Decoder().decode
        self._decode_errors = (msgspec.DecodeError, ValueError, TypeError, IndexError)
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._names = {}
        self._sequences = {}
        self.notes = collections.Counter()
        for address in addresses:
            socket = self._context.socket(zmq.SUB)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt_string(zmq.SUBSCRIBE, topic)
            socket.connect(address)
            self._poller.register(socket, zmq.POLLIN)
            self._names[socket] = address

    def batches(self, wait_seconds):
        """Those that come within a time, as (seconds, events, where from)."""
        for socket, _ in self._poller.poll(int(wait_seconds * 1000)):
            address = self._names[socket]
            parts = socket.recv_multipart()
            try:
                _, sequence, payload = parts
                batch = self._decode(payload)
                rank = batch[2] if len(batch) > 2 else None
                source, seconds, events = (address, rank), float(batch[0]), list(batch[1])
            except self._decode_errors:
                self.notes["messages that are no KV events"] += 1
                continue
            number = int.from_bytes(sequence, "big")
            lost = number - self._sequences.get(source, number - 1) - 1
            if lost > 0:
                self.notes["batches lost"] += lost
            self._sequences[source] = number
            yield seconds, events, source

    def close(self):
        self._context.destroy(linger=0)


def record_stream(addresses, recorder, topic="", seconds=float("inf"), is_stopped=lambda: False):
    stream = Stream(addresses, topic)
    end = time.monotonic() + seconds
    try:
        while not is_stopped() and time.monotonic() < end:
            for when, events, source in stream.batches(0.2):
                recorder.batch(when, events, source)
    finally:
        stream.close()
    recorder.notes.update(stream.notes)


# ---- The command.


@contextlib.contextmanager
def opened(path):
    if path == "-":
        yield sys.stdout
        return
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8") as file:
        yield file


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    lookups = kinds.add_parser("lookups", help="LMCache's log of lookups")
    lookups.add_argument("source", nargs="+", help="directories or files")
    lookups.add_argument("--model", help="only lookups of this model")
    events = kinds.add_parser("events", help="KV events of vLLM and LMCache")
    events.add_argument("source", nargs="+", help="ZMQ addresses, or files of JSON lines")
    events.add_argument("--merge-seconds", type=float, default=2.0, help="default: 2")
    events.add_argument("--medium", help="GPU, CPU, ...; default: that of the first event")
    events.add_argument("--block-size", type=int, help="tokens; default: that of the first event")
    events.add_argument("--topic", default="", help="of the publisher")
    events.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    for one in (lookups, events):
        one.add_argument("-o", "--output", default="-", help="a file, gzip if it ends in .gz")
    return parser.parse_args(arguments)


def record(options, writer):
    if options.kind == "lookups":
        return record_lookups(options.source, writer, options.model)
    recorder = EventRecorder(writer, options.merge_seconds, options.medium, options.block_size)
    if any("://" in source for source in options.source):
        stopped = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.append(True))
        record_stream(
            options.source, recorder, options.topic, options.seconds, lambda: bool(stopped)
        )
    else:
        for source in options.source:
            for seconds, events in batches_of_file(source):
                recorder.batch(seconds, events)
    recorder.finish()
    return recorder.notes


def main(arguments=None):
    options = parse(arguments)
    try:
        with opened(options.output) as file:
            writer = TraceWriter(file)
            notes = record(options, writer)
    except (RecordError, OSError) as error:
        print(f"record_trace.py: {error}", file=sys.stderr)
        return 1
    print(f"{writer.requests} requests recorded", file=sys.stderr)
    for note, count in sorted(notes.items()):
        print(f"note: {count} {note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
