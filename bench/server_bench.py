"""`larder server` beside LMCache's own server, in turn, by raw frames: latencies, server CPU, and cycles
with several clients.

    python bench/server_bench.py [--rounds 7] [--tokens 131072] [--only larder]

Run it with the python of the environment `engine` (scripts/python_env.sh). Frames are encoded before
the clock starts, so that a client costs little; each round asks every server in turn.
"""

import argparse
import collections
import multiprocessing
import random
import tempfile
import time

from quartiles import quartiles
from server_support import CHUNK, Bench, Client, Latencies, encode, timed, tokens_of

PROMPTS = 16
TRANSPORT = "the same frame unread, and a PING"


def measure_latencies(benches, rounds, count):
    """What a scheduler waits for."""
    seen = Latencies()
    prompts = [tokens_of(seed, count) for seed in range(PROMPTS)]
    requests = {}
    for bench in benches:
        for number, tokens in enumerate(prompts):
            bench.store(tokens, f"store-{number}")
        client = bench.client
        requests[bench.kind] = [
            (
                client.frames("lookup", bench.key(tokens, f"r{number}"), 1),
                client.frames("query", f"r{number}"),
                client.frames("free", bench.key(tokens, f"r{number}"), 1),
                client.frames("end_session", f"r{number}"),
            )
            for number, tokens in enumerate(prompts)
        ]
    expected = count // CHUNK
    cpu = collections.defaultdict(list)
    for turn in range(rounds):
        for bench in random.sample(benches, len(benches)):
            client, mine = bench.client, requests[bench.kind]
            ping = client.frames("ping", None)
            if bench.kind == "larder":  # LMCache's server decodes what this carries.
                seen.add(TRANSPORT, bench.kind, transport(client, bench, prompts))
            seen.add("PING", bench.kind, [timed(lambda: client.run(ping)) for _ in range(300)])
            lookups, frees, ends = [], [], []
            before = bench.cpu_seconds()
            for _ in range(3):
                for lookup, query, free, end in mine:
                    began = time.perf_counter()
                    client.run(lookup)
                    hit = client.result(query)
                    lookups.append((time.perf_counter() - began) * 1000)
                    assert hit == expected, (bench.kind, hit, expected)
                    frees.append(timed(lambda: client.run(free)))
                    ends.append(timed(lambda: client.run(end)))
            cpu[bench.kind].append((bench.cpu_seconds() - before) * 1000 / (3 * len(mine)))
            seen.add(f"LOOKUP + QUERY, {count} tokens, hit", bench.kind, lookups)
            seen.add(f"FREE, {count} tokens", bench.kind, frees)
            seen.add("END", bench.kind, ends)
            unseen = []
            for number in range(8):
                tokens = tokens_of((turn, number, 99), count)
                lookup = client.frames("lookup", bench.key(tokens, f"n{number}"), 1)
                query = client.frames("query", f"n{number}")
                began = time.perf_counter()
                client.run(lookup)
                client.result(query)
                unseen.append((time.perf_counter() - began) * 1000)
                client.run(client.frames("end_session", f"n{number}"))
            seen.add(f"LOOKUP + QUERY, {count} tokens, never seen", bench.kind, unseen)
            seen.add(
                "PING under never-seen LOOKUPs",
                bench.kind,
                ping_under_lookups(bench, count, turn),
            )
    seen.show([bench.kind for bench in benches])
    for bench in benches:
        print(
            f"server CPU of LOOKUP + QUERY + FREE + END, {count} tokens, {bench.kind}: "
            f"{quartiles(cpu[bench.kind])[0]:.3f} ms"
        )


def transport(client, bench, prompts):
    """The same bytes and round trips as a LOOKUP and its QUERY, for a server that does nothing with
    them: it counts report_block_allocation and does not read it."""
    values = []
    for tokens in prompts:
        unread = [encode(23), encode(0), encode(""), encode(bench.key(tokens, "unread"))]
        ping = client.frames("ping", None)
        values.append(timed(lambda: (client.run(unread), client.run(ping))))
    return values


def stream_lookups(port, prepared, is_ready, is_done):
    """In a process of its own."""
    client = Client(port)
    is_ready.set()
    for frames in prepared:
        client.run(frames)
    is_done.set()
    client.close()


def ping_under_lookups(bench, count, turn):
    """PINGs of one client while another one looks up what nobody has seen."""
    prepared = [
        bench.client.frames("lookup", bench.key(tokens_of((turn, n, 7), count), f"p{n}"), 1)
        for n in range(100)
    ]
    spawning = multiprocessing.get_context("spawn")
    is_ready, is_done = spawning.Event(), spawning.Event()
    arguments = (bench.server.port, prepared, is_ready, is_done)
    other = spawning.Process(target=stream_lookups, args=arguments)
    other.start()
    is_ready.wait()
    ping = bench.client.frames("ping", None)
    values = []
    while not is_done.is_set():
        values.append(timed(lambda: bench.client.run(ping)))
    other.join()
    return values


def cycles(port, frames, seconds, counts, number, all_ready):
    """LOOKUP, QUERY, FREE, END, again and again. In a process of its own."""
    client = Client(port)
    all_ready.wait()
    done = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        lookup, query, free, end = frames[done % len(frames)]
        client.run(lookup)
        client.result(query)
        client.run(free)
        client.run(end)
        done += 1
    counts[number] = done / seconds


def prompts_of_cycles(benches, count):
    """Stored in all servers."""
    prompts = [tokens_of((seed, 5), count) for seed in range(PROMPTS)]
    for bench in benches:
        for number, tokens in enumerate(prompts):
            bench.store(tokens, f"cycle-{number}")
    return prompts


def measure_cycles(benches, rounds, prompts, clients, seconds=2.0):
    rates = collections.defaultdict(list)
    for _ in range(rounds):
        for bench in random.sample(benches, len(benches)):
            spawning = multiprocessing.get_context("spawn")
            counts = spawning.Array("d", clients)
            all_ready = spawning.Barrier(clients)
            workers = []
            for number in range(clients):
                frames = [
                    (
                        bench.client.frames("lookup", bench.key(tokens, f"c{number}-{i}"), 1),
                        bench.client.frames("query", f"c{number}-{i}"),
                        bench.client.frames("free", bench.key(tokens, f"c{number}-{i}"), 1),
                        bench.client.frames("end_session", f"c{number}-{i}"),
                    )
                    for i, tokens in enumerate(prompts)
                ]
                arguments = (bench.server.port, frames, seconds, counts, number, all_ready)
                workers.append(spawning.Process(target=cycles, args=arguments))
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            rates[bench.kind].append(sum(counts))
    for bench in benches:
        middle, low, high = quartiles(rates[bench.kind])
        print(
            f"cycles/s, {clients} clients, {len(prompts[0])} tokens, {bench.kind}: "
            f"{middle:.0f} ({low:.0f} to {high:.0f})"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=131072)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--only", action="append", help="larder, 0.5.6 or 0.5.7rc2; default both")
    options = parser.parse_args()
    kinds = options.only or ["larder", "0.5.6"]
    with tempfile.TemporaryDirectory() as directory:
        benches = [Bench(kind, directory, 1, 4) for kind in kinds]
        measure_latencies(benches, options.rounds, options.tokens)
        prompts = prompts_of_cycles(benches, 32768)
        for clients in options.clients:
            measure_cycles(benches, options.rounds, prompts, clients)
        for bench in benches:
            bench.close()


if __name__ == "__main__":
    main()
