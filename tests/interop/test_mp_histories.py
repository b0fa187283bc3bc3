"""Random histories of workers and schedulers: run against LMCache's server and `larder server` side
by side, both must say the same, and both must say what the model says; and with what LMCache does
not survive (reused request ids, double FREE, workers that vanish), larder must say what the model
says. Bytes are compared through the shared memory of each. LARDER_SEED chooses others."""

import contextlib
import os

import pytest
from mp_history import Maker
from mp_player import Oracle, Player
from mp_replay import DIFFERENCES
from mp_server import IS_FULL, MpServer

HISTORIES = 200 if IS_FULL else 20
LENGTH = 80
FIRST_SEED = int(os.environ.get("LARDER_SEED", "1"))


def is_allowed(op, stock, larder) -> bool:
    """The rules of differences.json for histories."""
    assert set(DIFFERENCES["histories"]) == {"no lock needed"}
    return op.what == "prepare_retrieve" and stock is None and larder is not None


def show(value) -> str:
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return f"{len(value)} chunks, {value[0][:8].hex()}.."
    return repr(value)


def first_trouble(ops, players, count):
    """Of one history; `count` gets what happened."""
    oracle = Oracle()
    for number, op in enumerate(ops):
        wanted = oracle.answer(op)
        answers = {kind: player.play(op) for kind, player in players.items()}
        count[op.what] = count.get(op.what, 0) + 1
        for kind, got in answers.items():
            if wanted is NotImplemented or got == wanted:
                continue
            if kind != "larder" and is_allowed(op, got, wanted):
                count["no lock needed"] = count.get("no lock needed", 0) + 1
                continue
            return f"step {number} {op.what}: {kind} says {show(got)}, wanted {show(wanted)}"
        if op.what == "query" and wanted:
            count["hits"] = count.get("hits", 0) + 1
        if op.what == "prepare_retrieve" and all(map(bool, answers.values())):
            count["reads of all"] = count.get("reads of all", 0) + 1
    return None


def run_histories(version, kinds, tmp_path, is_wild):
    found, count = [], {}
    with contextlib.ExitStack() as stack:
        players = {}
        for kind in kinds:
            server = stack.enter_context(MpServer(kind, tmp_path / f"{kind}.log", l1_gb="0.25"))
            players[kind] = player = Player(server)
            stack.callback(player.close)
        for seed in range(FIRST_SEED, FIRST_SEED + HISTORIES):
            ops = Maker(seed, version, is_wild).make(LENGTH)
            if trouble := first_trouble(ops, players, count):
                found.append(f"seed {seed} {trouble}")
            for player in players.values():
                player.end_history()
    print(count)
    assert found == []
    assert count["hits"] > HISTORIES and count["reads of all"] > HISTORIES / 2


@pytest.mark.parametrize("version", ["0.5.6", "0.5.7rc2"])
def test_larder_and_lmcache_say_the_same(tmp_path, version):
    run_histories(version, (version, "larder"), tmp_path, is_wild=False)


@pytest.mark.parametrize("version", ["0.5.6", "0.5.7rc2"])
def test_larder_says_what_the_model_says(tmp_path, version):
    run_histories(version, ("larder",), tmp_path, is_wild=True)
