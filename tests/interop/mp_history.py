"""Random histories of workers and schedulers, made from a seed before any server sees them."""

import dataclasses
import random

from mp_wire import key, registration

CHUNK, LAYERS, HIDDEN = 16, 2, 8
SALTS = ("", "", "tenant-a")


@dataclasses.dataclass
class Model:
    name: str
    world: int


@dataclasses.dataclass
class Worker:
    instance: int
    model: Model
    rank: int
    is_registered: bool = False


@dataclasses.dataclass(frozen=True)
class Op:
    """`what` is an operation of mp_wire; `who` the connection that sends it."""

    who: str
    what: str
    arguments: tuple = ()
    key: dict | None = None


class Maker:
    """Makes one history. It follows what is stored and locked as far as it needs to, so as to ask
    only what both servers define; `is_wild` also asks the rest (larder alone is judged then)."""

    def __init__(self, seed: int, version: str, is_wild: bool = False):
        self.random = random.Random(seed)
        self.seed, self.version, self.is_wild = seed, version, is_wild
        single, pair = Model(f"one-{seed}", 1), Model(f"two-{seed}", 2)
        self.models = [single, pair]
        base = 1000 * (seed + 1)
        self.workers = [
            Worker(base + 1, single, 0),
            Worker(base + 2, single, 0),
            Worker(base + 3, pair, 0),
            Worker(base + 4, pair, 1),
        ]
        self.words = [[self.random.randrange(151_000) for _ in range(CHUNK)] for _ in range(4)]
        self.ops: list[Op] = []
        self.requests: dict[str, tuple] = {}  # id -> (model, tokens, end, salt, readers)
        self.ended: list[str] = []
        self.open_writes: list[tuple[Worker, tuple, Op]] = []
        self.open_reads: list[tuple[Worker, Op]] = []
        self.written: list[tuple] = []  # (model, tokens, salt) of stores.
        self.numbers = 0

    def make(self, length: int) -> list[Op]:
        for worker in self.workers:
            self._register(worker)
        steps = [
            (self._store, 6),
            (self._begin_store, 3),
            (self._commit, 3),
            (self._look_up, 6),
            (self._retrieve, 6),
            (self._begin_read, 2),
            (self._end_read, 2),
            (self._free, 3),
            (self._end, 3),
            (self._clear, 0.3),
            (self._register_again, 0.5),
            (self._ping, 1),
        ]
        if self.is_wild:
            steps += [(self._reuse, 4), (self._free_twice, 3), (self._drop_worker, 0.5)]
        makers, weights = zip(*steps, strict=True)
        while len(self.ops) < length:
            self.random.choices(makers, weights)[0]()
        return self.ops

    # ---- Pieces.

    def _prompt(self) -> list[int]:
        """Prompts share prefixes because they are made of few words."""
        words = self.random.choices(self.words, k=self.random.randint(1, 6))
        tail = [5] * self.random.choice((0, 0, 0, 3))
        return [token for word in words for token in word] + tail

    def _request(self) -> str:
        self.numbers += 1
        if self.ended and self.random.random() < 0.2:
            return self.ended.pop(self.random.randrange(len(self.ended)))
        return f"r-{self.seed}-{self.numbers}"

    def _key(self, tokens, request, **more):
        return key(tokens, request, version=self.version, **more)

    def _register(self, worker: Worker) -> None:
        self._add(
            worker,
            "register",
            registration(
                worker.instance,
                model=worker.model.name,
                world=worker.model.world,
                layers=LAYERS,
                hidden=HIDDEN,
                chunk=CHUNK,
            ),
        )
        worker.is_registered = True

    def _add(self, worker: Worker, what: str, *arguments, key=None) -> Op:
        op = Op(f"worker {worker.instance}", what, arguments, key)
        self.ops.append(op)
        return op

    def _ask(self, what: str, *arguments, key=None) -> None:
        self.ops.append(Op("scheduler", what, arguments, key))

    def _live_workers(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.is_registered]

    # ---- Workers.

    def _prepare(self, worker, tokens, salt, request) -> tuple | None:
        chunks = len(tokens) // CHUNK
        start = self.random.randrange(chunks) if self.random.random() < 0.3 else 0
        end = self.random.randint(start + 1, chunks)
        whole = self._key(
            tokens,
            request,
            worker=worker.rank,
            start=start * CHUNK,
            end=end * CHUNK,
            model=worker.model.name,
            world=worker.model.world,
            salt=salt,
        )
        identity = (worker.instance, tuple(tokens[: end * CHUNK]), salt, start)
        if not self.is_wild and any(identity == other for _, other, _ in self.open_writes):
            return None
        skipped = ((),) if self.version != "0.5.6" else ()
        op = self._add(worker, "prepare_store", worker.instance, *skipped, key=whole)
        return worker, identity, op

    def _store(self) -> None:
        """By all ranks of a model, as an engine does; sometimes by one alone."""
        model = self.random.choice(self.models)
        tokens, salt, request = self._prompt(), self.random.choice(SALTS), self._request()
        workers = [worker for worker in self._live_workers() if worker.model is model]
        ranks = {worker.rank: worker for worker in self.random.sample(workers, len(workers))}
        chosen = list(ranks.values())
        if len(chosen) > 1 and self.random.random() < 0.2:
            chosen.pop()
        for worker in chosen:
            if made := self._prepare(worker, tokens, salt, request):
                self._add(worker, "commit_store", worker.instance, b"", key=made[2].key)
        self.written.append((model, tokens, salt))
        if request not in self.requests:
            self._ask("end_session", request)
            self.ended.append(request)

    def _begin_store(self) -> None:
        workers = self._live_workers()
        made = self._prepare(
            self.random.choice(workers), self._prompt(), self.random.choice(SALTS), self._request()
        )
        if made:
            self.open_writes.append(made)

    def _commit(self) -> None:
        if not self.open_writes:
            return
        worker, _, op = self.open_writes.pop(self.random.randrange(len(self.open_writes)))
        self._add(worker, "commit_store", worker.instance, b"", key=op.key)
        if self.random.random() < 0.2:
            self._add(worker, "commit_store", worker.instance, b"", key=op.key)

    def _readers(self, request):
        model, tokens, end, salt, _ = self.requests[request]
        ranks = {worker.rank: worker for worker in self._live_workers() if worker.model is model}
        return list(ranks.values()), tokens, end, salt

    def _read_key(self, worker, request, tokens, end, salt):
        chunks = end // CHUNK
        start = self.random.randrange(chunks) if self.random.random() < 0.3 else 0
        stop = self.random.randint(start + 1, chunks) if self.random.random() < 0.2 else chunks
        return self._key(
            tokens,
            request,
            worker=worker.rank,
            start=start * CHUNK,
            end=stop * CHUNK,
            model=worker.model.name,
            world=worker.model.world,
            salt=salt,
        )

    def _retrieve(self) -> None:
        """Of what the request asked for, whatever the hit was: it is there, or it is not."""
        if not self.requests:
            return
        request = self.random.choice(list(self.requests))
        workers, tokens, end, salt = self._readers(request)
        if end < CHUNK:
            return
        for worker in workers:
            asked = self._read_key(worker, request, tokens, end, salt)
            self._add(worker, "prepare_retrieve", worker.instance, key=asked)
            if self.random.random() < 0.1:
                self._add(worker, "prepare_retrieve", worker.instance, key=asked)
            self._add(worker, "commit_retrieve", worker.instance, key=asked)

    def _begin_read(self) -> None:
        if not self.requests:
            return
        request = self.random.choice(list(self.requests))
        workers, tokens, end, salt = self._readers(request)
        if end < CHUNK or not workers:
            return
        worker = self.random.choice(workers)
        asked = self._read_key(worker, request, tokens, end, salt)
        self.open_reads.append(
            (worker, self._add(worker, "prepare_retrieve", worker.instance, key=asked))
        )

    def _end_read(self) -> None:
        if self.open_reads:
            worker, op = self.open_reads.pop(self.random.randrange(len(self.open_reads)))
            self._add(worker, "commit_retrieve", worker.instance, key=op.key)

    def _register_again(self) -> None:
        """With the same contents, which ends at larder what the worker has open."""
        worker = self.random.choice(self._live_workers())
        if self.is_wild or not any(writer is worker for writer, *_ in self.open_writes):
            self._register(worker)

    def _ping(self) -> None:
        worker = self.random.choice(self._live_workers())
        self._add(worker, "ping", worker.instance)

    # ---- The scheduler.

    def _look_up(self) -> None:
        again = list(self.requests) if self.random.random() < 0.15 else []
        if again:
            request = self.random.choice(again)
            model, tokens, end, salt, readers = self.requests[request]
        else:
            model, tokens = self.random.choice(self.models), self._prompt()
            request, salt = self._request(), self.random.choice(SALTS)
            if self.written and self.random.random() < 0.7:
                model, tokens, salt = self.random.choice(self.written)
                tokens = tokens + self.random.choice(([], [9], self.random.choice(self.words)))
            end = self.random.choice((len(tokens), len(tokens), len(tokens) // CHUNK * CHUNK, 30))
            readers = self.random.choice((1, 1, 2))
        start = 0
        if self.version != "0.5.6" and self.random.random() < 0.3:
            start = self.random.randrange(len(tokens) // CHUNK) * CHUNK
        asked = self._key(
            tokens,
            request,
            start=start,
            end=end,
            model=model.name,
            world=model.world,
            salt=salt,
            readers=readers,
        )
        self._ask("lookup", model.world, key=asked)
        self._ask("query", request)
        if self.random.random() < 0.1:
            self._ask("query", request)
        aligned = min(end, len(tokens)) // CHUNK * CHUNK
        self.requests[request] = (model, tokens, aligned, salt, readers)

    def _free_of(self, request) -> None:
        model, tokens, end, salt, readers = self.requests[request]
        chunks = end // CHUNK
        start, stop = sorted(self.random.choices(range(chunks + 1), k=2))
        if self.random.random() < 0.5:
            start, stop = 0, chunks
        asked = self._key(
            tokens,
            request,
            start=start * CHUNK,
            end=stop * CHUNK,
            model=model.name,
            world=model.world,
            salt=salt,
            readers=readers,
        )
        extra = ((),) if self.version != "0.5.6" else ()
        self._ask("free", model.world, *extra, key=asked)

    def _free(self) -> None:
        if self.requests:
            self._free_of(self.random.choice(list(self.requests)))

    def _end(self) -> None:
        if self.requests:
            request = self.random.choice(list(self.requests))
            del self.requests[request]
            self._ask("end_session", request)
            # LMCache makes a session anew for a read that ends later.
            if not any(op.key["request_id"] == request for _, op in self.open_reads):
                self.ended.append(request)

    def _clear(self) -> None:
        """LMCache, when a reservation of before is committed, publishes what others write there."""
        while self.open_writes and not self.is_wild:
            self._commit()
        self._ask("clear", True)

    # ---- What only larder defines.

    def _reuse(self) -> None:
        """An id that still stands for other tokens."""
        if not self.requests:
            return
        request = self.random.choice(list(self.requests))
        model = self.requests[request][0]
        tokens, salt = self._prompt(), self.random.choice(SALTS)
        workers = [worker for worker in self._live_workers() if worker.model is model]
        for worker in workers:
            if made := self._prepare(worker, tokens, salt, request):
                self._add(worker, "commit_store", worker.instance, b"", key=made[2].key)

    def _free_twice(self) -> None:
        if self.requests:
            request = self.random.choice(list(self.requests))
            self._free_of(request)
            self._free_of(request)

    def _drop_worker(self) -> None:
        """With whatever it has open, which must not be published."""
        worker = self.random.choice(self.workers)
        self.open_writes = [entry for entry in self.open_writes if entry[0] is not worker]
        self.open_reads = [entry for entry in self.open_reads if entry[0] is not worker]
        self._add(worker, "unregister", worker.instance)
        self._register(worker)
