"""A serving engine without torch and without LMCache: one worker and its scheduler."""

import mmap
import time

from mp_player import CHUNK, chunk_bytes
from mp_server import wait_for
from mp_wire import RawClient, key, registration

WORKER, MODEL, CHUNKS = 7, "faulty", 6


def tokens_of(number):
    return [(number * 7_919 + 31 * i) % 151_000 for i in range(CHUNKS * CHUNK)]


class Cache:
    """What one worker and its scheduler do to a server, over a raw connection and its pool."""

    def __init__(self, server, model=MODEL):
        self.server = server
        self.model = model
        self.client = RawClient(server.port)
        self.client.ask("register", registration(WORKER, model=model))
        with open(server.pool(), "r+b") as pool:
            self.pool = mmap.mmap(pool.fileno(), 0)

    def store(self, number, salt=""):
        tokens = tokens_of(number)
        asked = key(tokens, f"s-{number}", worker=0, model=self.model, salt=salt)
        context = self.client.ask("prepare_store", asked, WORKER)["context"]
        for slot, chunk in zip(context["slots"], context["chunk_indices"], strict=True):
            begin = slot["offset"]
            self.pool[begin : begin + slot["length"]] = chunk_bytes(
                tokens, chunk, salt, self.model, 0
            )
        assert self.client.ask("commit_store", asked, WORKER, b"")

    def forget(self):
        """L1, once L2 has it all."""
        wait_for(lambda: self.stores_pending() == 0, "the stores to L2", seconds=30)
        self.client.ask("clear", True)

    def stores_pending(self):
        controller = self.server.status()["storage_manager"]["store_controller"]
        return controller["pending_keys_count"] + controller["in_flight_task_count"]

    def look_up(self, number, salt=""):
        """(chunks, seconds). What is said to be there is read and compared."""
        request, tokens = f"l-{number}-{time.monotonic_ns()}", tokens_of(number)
        begin = time.monotonic()
        self.client.ask("lookup", key(tokens, request, model=self.model, salt=salt), 1)
        while (hit := self.client.ask("query", request)) is None:
            time.sleep(0.002)
        seconds = time.monotonic() - begin
        if hit:
            asked = key(tokens, request, worker=0, end=hit * CHUNK, model=self.model, salt=salt)
            answer = self.client.ask("prepare_retrieve", asked, WORKER)
            assert answer["success"], "what was named can be read"
            for chunk, slot in enumerate(answer["context"]["slots"]):
                begin = slot["offset"]
                got = self.pool[begin : begin + slot["length"]]
                assert got == chunk_bytes(tokens, chunk, salt, self.model, 0), "other bytes"
            self.client.ask("commit_retrieve", asked, WORKER)
        self.client.ask("end_session", request)
        return hit, seconds

    def left(self):
        """What a request could leave behind."""
        status = self.server.status()
        kinds = ("writing", "loading", "locked", "orphan", "quarantine")
        return {
            **{kind: status["larder"]["l1_bytes"][kind] for kind in kinds},
            "lookups": status["active_prefetch_jobs"],
            "sessions": status["active_sessions"],
        }

    def used_bytes(self):
        return self.server.status()["storage_manager"]["l1_manager"]["memory_used_bytes"]

    def close(self):
        self.client.close()
        self.pool.close()
