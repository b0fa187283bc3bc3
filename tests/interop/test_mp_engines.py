"""LMCache's own adapters for SGLang and ATOM of both versions, unmodified, against `larder server`
(mp_engines.py says what stands in for SGLang): store, lookup, retrieve with every byte compared, and
a server that is killed and started again over the same disk."""

import contextlib

import pytest
from mp_server import STOCK, Client, MpServer, Restartable, free_port, l2_option, log_url, wait_for

VERSIONS = list(STOCK)
MODES = ["engine_driven", "lmcache_driven"]


def engine(version, server, tmp_path, name="client", **job):
    job = {"heartbeat": 1.0, "mq_timeout": 20.0, "model": "engines", **job}
    return Client(version, server, tmp_path / f"{name}.log", program="mp_engines.py", **job)


@pytest.fixture
def server(tmp_path):
    with MpServer("larder", tmp_path / "server.log") as server:
        yield server


def store_and_load(ask):
    """`ask` is asked the same of every rank, and gives what all of them say."""
    for seed in (2, 3):
        assert ask("load", seed, 6) == 0
        assert ask("store", seed, 4) is True
        assert ask("load", seed, 6) == 4
        assert ask("store", seed, 6) is True
        assert ask("load", seed, 6) == 6


def test_sglangs_adapter_of_keys_and_values(tmp_path, server):
    """The first one, which 0.5.7 has no more. LMCache's own server does not serve it on CPUs."""
    with engine("0.5.6", server, tmp_path, engine="sglang") as client:
        store_and_load(client.ask)
        assert client.ask("load", 2, 2) == 2
        assert client.ask("give_back", 2, 6) == 6
        left = server.status()["larder"]["l1_bytes"]
        assert left["locked"] == 0, left


class Ranks:
    """A process for each, whose adapters agree among themselves on every result."""

    def __init__(self, version, server, tmp_path, world, **job):
        self.stack = contextlib.ExitStack()
        port = free_port()
        common = {"engine": "sglang_unified", "world": world, "group_port": port, **job}
        self.clients = []
        with self.stack:
            for rank in range(world):  # Each waits for the others.
                client = engine(
                    version, server, tmp_path, f"{rank}", rank=rank, is_waited_for=False, **common
                )
                self.clients.append(self.stack.enter_context(client))
            for client in self.clients:
                client.wait_ready()
            self.stack = self.stack.pop_all()

    def ask(self, *step):
        for client in self.clients:
            client.begin(*step)
        answers = [client.answer() for client in self.clients]
        assert len({str(answer) for answer in answers}) == 1, answers
        return answers[0]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stack.__exit__(*error)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("kind", "world"), [("plain", 1), ("plain", 2), ("mla", 1), ("mla", 2)])
def test_sglangs_unified_adapter(tmp_path, server, version, mode, kind, world):
    with Ranks(version, server, tmp_path, world, mode=mode, kind=kind) as ranks:
        store_and_load(ranks.ask)
        assert ranks.ask("load", 2, 2) == 2
        wait_for(lambda: server.status()["larder"]["l1_bytes"]["locked"] == 0, "the locks' end")
        assert ranks.ask("clear") is True
        assert ranks.ask("load", 2, 6) == 0


@pytest.mark.parametrize("window", [8, 16, 32], ids=["half_a_chunk", "a_chunk", "two_chunks"])
@pytest.mark.parametrize(
    ("version", "mode"),
    # 0.5.6 drives one group alone itself.
    [(version, mode) for version in VERSIONS for mode in MODES][1:],
)
def test_sglangs_unified_adapter_with_a_window(tmp_path, server, version, mode, window):
    """A hit of fewer chunks than were stored lacks its window, and is none."""
    job = {"mode": mode, "kind": "window", "window": window}
    with Ranks(version, server, tmp_path, 1, **job) as ranks:
        store_and_load(ranks.ask)
        assert ranks.ask("load", 4, 3) == 0
        assert ranks.ask("store", 4, 3) is True
        assert ranks.ask("load", 4, 3) == 3
        assert ranks.ask("load", 4, 1) == 0
        assert ranks.ask("load", 4, 5) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("version", VERSIONS)
def test_atoms_adapters(tmp_path, server, version, world, mode):
    with engine(version, server, tmp_path, engine="atom", mode=mode, world=world) as client:
        store_and_load(client.ask)
        assert client.ask("load", 2, 2) == 2


@pytest.mark.parametrize("name", ["sglang", "sglang_unified", "atom"])
def test_after_a_crash_the_prefix_comes_from_disk(tmp_path, name):
    """ATOM's worker registers again by itself. SGLang's adapters never do: they are told so at
    once, instead of waiting, and an engine that was started again finds everything."""
    job = {"engine": name, "mode": "lmcache_driven", "mq_timeout": 6.0}
    options = l2_option(log_url(tmp_path))
    with Restartable(tmp_path, options=options) as servers:
        with engine("0.5.6", servers.server, tmp_path, **job) as client:
            for seed in (2, 3, 4):
                assert client.ask("store", seed, 6) is True
            wait_for(
                lambda: (
                    servers.server.status()["storage_manager"]["store_controller"][
                        "pending_keys_count"
                    ]
                    == 0
                ),
                "the stores to L2",
            )
            servers.server.kill()
            servers.start().wait_ready()
            if name == "atom":
                wait_for(lambda: client.ask("store", 5, 6) is True, "the next store", every=0.2)
                assert client.ask("load", 2, 6) == 6
            else:
                assert client.ask("store", 5, 6) is not True
                assert client.ask("load", 2, 6) == 0
        with engine("0.5.6", servers.server, tmp_path, "again", **job) as client:
            for seed in (2, 3, 4):
                assert client.ask("load", seed, 7) == 6
