"""larder.vllm: which request may load now, and which waits for rows of vLLM's host tier."""

import random

from larder.vllm._room import Room, RoomLedger

FREE, LATER, NONE = Room.FREE, Room.LATER, Room.NONE


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def ledger_of(rows=16, timeout=10.0):
    clock = Clock()
    return RoomLedger(rows, timeout, clock), clock


def keys_of(request, count, begin=0):
    return [f"{request}-{number}".encode() for number in range(begin, begin + count)]


def ask_all(ledger, request, keys):
    return [ledger.ask(request, key) for key in keys]


def test_a_request_waits_until_all_of_its_chunks_fit():
    ledger, _ = ledger_of(16)
    first, second = keys_of("a", 10), keys_of("b", 10)
    assert ask_all(ledger, "a", first) == [FREE] * 10
    assert ask_all(ledger, "b", second) == [LATER] * 10, "a part of them would be evicted again"
    ledger.begin_load("a", first)
    ledger.end_step([])
    ledger.end_load("a", 10, [])
    assert ask_all(ledger, "b", second) == [LATER] * 10, "the first one's rows are not used yet"
    ledger.end_step(["a"])
    assert ask_all(ledger, "b", second) == [FREE] * 10
    assert ledger.promised == 10


def load(ledger, request, keys):
    """All of them, to their end; those that wait are admitted by the step's."""
    assert ask_all(ledger, request, keys) == [FREE] * len(keys)
    ledger.begin_load(request, keys)
    ledger.end_load(request, len(keys), [])


def test_requests_that_fit_together_load_together():
    ledger, _ = ledger_of(16)
    wanted = {request: keys_of(request, 5) for request in "abcd"}
    ledger.begin_store(12)
    ledger.end_store(12)
    load(ledger, "a", wanted["a"])
    for request in "bcd":
        assert ask_all(ledger, request, wanted[request]) == [LATER] * 5
    ledger.end_step([])
    load(ledger, "b", wanted["b"])
    load(ledger, "c", wanted["c"])
    assert ask_all(ledger, "d", wanted["d"]) == [LATER] * 5, "15 of 16 rows are promised"


def test_rows_that_were_used_since_a_request_began_count_until_it_runs():
    """They are newer than its own, which vLLM would evict first."""
    ledger, _ = ledger_of(16)
    wanted = {request: keys_of(request, 6) for request in "abc"}
    load(ledger, "a", wanted["a"])
    ask_all(ledger, "b", wanted["b"])
    ledger.end_step([])
    load(ledger, "b", wanted["b"])
    ask_all(ledger, "c", wanted["c"])
    ledger.end_step(["a"])
    assert ask_all(ledger, "c", wanted["c"]) == [LATER] * 6, "6 of b, and 6 newer ones"
    ledger.end_step(["b"])
    load(ledger, "c", wanted["c"])
    ledger.begin_store(4)
    ledger.end_store(4)
    ask_all(ledger, "d", wanted["a"])
    ledger.end_step([])
    assert ask_all(ledger, "d", wanted["a"]) == [LATER] * 6, "4 of a store are newer than c's"


def test_a_request_that_is_larger_than_the_tier_gets_what_fits_and_computes_the_rest():
    ledger, _ = ledger_of(16)
    keys = keys_of("a", 20)
    assert ask_all(ledger, "a", keys) == [FREE] * 15 + [NONE] * 5
    ledger.begin_load("a", keys[:15])
    ledger.end_step([])
    ledger.end_load("a", 15, [])
    assert ask_all(ledger, "a", keys[15:]) == [NONE] * 5, "else its first rows went for its last"


def test_a_chunk_that_lost_its_row_is_loaded_again_without_another_promise():
    ledger, _ = ledger_of(16)
    (key,) = keys_of("a", 1)
    for _ in range(3):
        assert ledger.ask("a", key) is FREE
        ledger.begin_load("a", [key])
        ledger.end_step([])
        ledger.end_load("a", 1, [])
    assert (ledger.promised, ledger.copying) == (1, 0)


def test_nobody_loads_while_rows_are_being_copied():
    ledger, _ = ledger_of(16)
    ledger.begin_store(15)
    assert ledger.ask("a", b"k") is LATER
    ledger.end_store(15)
    assert ledger.ask("a", b"k") is FREE


def test_what_is_granted_in_one_step_counts_in_that_step():
    ledger, _ = ledger_of(16)
    ledger.begin_store(10)
    assert ask_all(ledger, "a", keys_of("a", 6)) == [FREE] * 5 + [LATER]


def test_who_waits_for_what_does_not_move_computes():
    ledger, clock = ledger_of(16, timeout=10)
    ledger.begin_store(15)
    assert ledger.ask("a", b"k") is LATER
    clock.now += 9
    assert ledger.ask("a", b"k") is LATER
    ledger.end_store(1)
    ledger.begin_store(1)
    clock.now += 9
    assert ledger.ask("a", b"k") is LATER, "a copy has ended since"
    clock.now += 2
    assert ledger.ask("a", b"k") is NONE


def test_a_grant_for_which_vllm_had_no_row_is_no_promise():
    ledger, _ = ledger_of(16)
    first, second = keys_of("a", 2)
    assert ask_all(ledger, "a", [first, second]) == [FREE, FREE]
    ledger.begin_load("a", [first])
    ledger.end_step([])
    assert ledger.promised == 1


def test_a_promise_that_nobody_uses_ends():
    ledger, clock = ledger_of(16, timeout=10)
    keys = keys_of("a", 14)
    ask_all(ledger, "a", keys)
    ledger.begin_load("a", keys)
    ledger.end_step([])
    clock.now += 11
    ledger.end_step([])
    assert ledger.promised == 14, "it is still being loaded"
    ledger.end_load("a", 14, [])
    ledger.end_step([])
    assert ledger.ask("b", b"k") is LATER
    clock.now += 11
    ledger.end_step([])
    assert ledger.promised == 0
    assert ledger.ask("b", b"k") is FREE


def test_a_failed_load_and_an_aborted_request_give_their_promises_back():
    ledger, _ = ledger_of(16)
    keys = keys_of("a", 4)
    ask_all(ledger, "a", keys)
    ledger.begin_load("a", keys)
    ledger.end_step([])
    ledger.release("a")  # Aborted while it loads: the rows are busy until the load has ended.
    assert (ledger.promised, ledger.copying) == (0, 4)
    ledger.end_load("a", 4, keys)
    assert (ledger.promised, ledger.copying) == (0, 0)
    ask_all(ledger, "b", keys)
    ledger.begin_load("b", keys)
    ledger.end_step([])
    ledger.end_load("b", 4, keys[1:])
    assert ledger.promised == 1


def test_any_history_serves_every_request_and_leaves_nothing():
    """Requests that share a tier that holds half of them at once, loads that end in any order."""
    for seed in range(40):
        chooser = random.Random(seed)
        rows = chooser.randrange(1, 40)
        ledger, clock = ledger_of(rows)
        wanted = {
            f"r{number}": keys_of(f"r{number}", chooser.randrange(1, rows + 6))
            for number in range(8)
        }
        ready = {request: set() for request in wanted}
        loads, steps = [], 0
        while wanted:
            steps += 1
            assert steps < 3000, f"seed {seed}: a request waits for ever"
            running = []
            for request, keys in list(wanted.items()):
                granted, answers = [], []
                busy = {k for r, ks in loads if r == request for k in ks}
                for key in keys:
                    if key in ready[request] or key in busy:
                        answers.append(FREE if key in ready[request] else LATER)
                        continue
                    answers.append(ledger.ask(request, key))
                    if answers[-1] is FREE:
                        granted.append(key)
                        answers[-1] = LATER
                    elif answers[-1] is NONE:
                        break
                if granted:
                    ledger.begin_load(request, granted)
                    loads.append((request, granted))
                elif LATER not in answers:
                    running.append(request)
                    del wanted[request]
            assert ledger.copying <= rows
            clock.now += 0.01
            ledger.end_step(running)
            chooser.shuffle(loads)
            for _ in range(chooser.randrange(len(loads) + 1)):
                request, keys = loads.pop()
                failed = [key for key in keys if chooser.random() < 0.05]
                ledger.end_load(request, len(keys), failed)
                ready[request] |= set(keys) - set(failed)
        for request, keys in loads:
            ledger.end_load(request, len(keys), [])
        assert (ledger.promised, ledger.copying) == (0, 0), f"seed {seed}"


def test_what_is_stored_while_nobody_waits_is_not_remembered():
    ledger, _ = ledger_of(16)
    for _ in range(1000):
        ledger.begin_store(1)
        ledger.end_store(1)
        ledger.end_step([])
    assert ledger._used == []
