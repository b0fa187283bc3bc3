"""The recorder of traces, on recorded lookups and events. tests/interop/test_record_trace.py has it
on those that LMCache and vLLM write."""

import gzip
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "examples/record_trace.py"


def load_script():
    spec = importlib.util.spec_from_file_location("record_trace", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record_trace = load_script()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def recorded(*arguments):
    ended = run(*arguments)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def write_lines(path, values):
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def lookup(seconds, chunks, tokens, request="", model="m", size=256):
    return {
        "timestamp": seconds,
        "request_id": request,
        "model_name": model,
        "chunk_size": size,
        "seq_len": tokens,
        "dtypes": ["bfloat16"],
        "shapes": [[2, 256, 128]],
        "chunk_hashes": chunks,
    }


def stored(hashes, parent=None, size=16, **fields):
    return {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": parent,
        "token_ids": list(range(size * len(hashes))),
        "block_size": size,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **fields,
    }


def ids(lines):
    return [line["hash_ids"] for line in lines]


# ---- Lookups.


def test_a_lookup_is_a_request(tmp_path):
    path = write_lines(
        tmp_path / "log.jsonl",
        [
            lookup(1711929600.1234, ["0xab", "0xcd"], 600, "a"),
            lookup(1711929601, ["0xab", "0xef", "0x12"], 768, "b"),
            lookup(1711929602, [], 100, "c"),
        ],
    )
    lines, says = recorded("lookups", path)
    assert lines == [
        {
            "timestamp": 1711929600123.4,
            "input_length": 600,
            "block_size": 256,
            "hash_ids": [0, 1],
        },
        {
            "timestamp": 1711929601000.0,
            "input_length": 768,
            "block_size": 256,
            "hash_ids": [0, 2, 3],
        },
        {"timestamp": 1711929602000.0, "input_length": 100, "block_size": 256, "hash_ids": []},
    ]
    assert says == "3 requests recorded\n"


def test_a_directory_is_read_in_the_order_of_its_files(tmp_path):
    write_lines(tmp_path / "lookup_hashes_20260401_143025_000001.jsonl", [lookup(2, ["b"], 256)])
    write_lines(tmp_path / "lookup_hashes_20260401_083025_000000.jsonl", [lookup(1, ["a"], 256)])
    write_lines(tmp_path / "other.jsonl", [{"not": "a lookup"}])
    lines, _ = recorded("lookups", tmp_path)
    assert [line["timestamp"] for line in lines] == [1000, 2000]


def test_a_request_that_waits_is_recorded_once(tmp_path):
    same = lookup(1, ["a", "b"], 512, "r")
    other = lookup(1, ["a", "b"], 512, "s")
    path = write_lines(tmp_path / "log.jsonl", [same, other, same, lookup(2, ["a"], 256, "r")])
    lines, says = recorded("lookups", path)
    assert ids(lines) == [[0, 1], [0, 1], [0]]
    assert "note: 1 lookups that a waiting request repeated left out" in says


def test_one_model_is_chosen(tmp_path):
    path = write_lines(
        tmp_path / "log.jsonl", [lookup(1, ["a"], 256), lookup(2, ["a", "b"], 512, model="n")]
    )
    ended = run("lookups", path)
    assert ended.returncode == 1
    assert f"{path}:2: model 'n' after 'm': choose with --model" in ended.stderr
    lines, says = recorded("lookups", path, "--model", "n")
    assert ids(lines) == [[0, 1]]
    assert "note: 1 lookups of other models left out" in says


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not a line of LMCache's lookup log"),
        ("[1]", "not a line of LMCache's lookup log"),
        ('{"timestamp": 1}', "no field 'chunk_hashes'"),
        (json.dumps(lookup("x", [], 1)), "not a line of LMCache's lookup log"),
        (json.dumps(lookup(1, ["a", "b"], 511)), "2 chunks of 256 tokens in 511 tokens"),
        (json.dumps(lookup(1, ["a"], 128, size=128)), "chunks of 128 tokens after those of 256"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path, line, says):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(lookup(0, ["a"], 256)) + "\n\n" + line + "\n")
    ended = run("lookups", path)
    assert ended.returncode == 1
    assert f"record_trace.py: {path}:3: " in ended.stderr and says in ended.stderr


def test_what_is_not_there_is_named(tmp_path):
    for arguments in [
        ("lookups", tmp_path),
        ("lookups", tmp_path / "none"),
        ("events", tmp_path / "none"),
    ]:
        ended = run(*arguments)
        assert ended.returncode == 1 and str(tmp_path) in ended.stderr
        assert "Traceback" not in ended.stderr


# ---- Events.


def events(tmp_path, batches, *arguments):
    return recorded("events", write_lines(tmp_path / "events.jsonl", batches), *arguments)


def test_events_become_requests_with_the_blocks_before_them(tmp_path):
    lines, says = events(
        tmp_path,
        [
            [100.0, [stored(["a", "b", "c"])]],
            {"ts": 110.0, "events": [stored(["d", "e"], "b")]},
            [
                120.0,
                [{"type": "BlockRemoved", "block_hashes": ["c"]}, {"type": "AllBlocksCleared"}],
            ],
            [130.0, [stored(["c"], "b")], None],
        ],
    )
    assert ids(lines) == [[0, 1, 2], [0, 1, 3, 4], [0, 1, 2]]
    assert [line["timestamp"] for line in lines] == [100_000, 110_000, 130_000]
    assert all(line["block_size"] == 16 for line in lines)
    assert lines[1]["input_length"] == 64
    assert says == "3 requests recorded\n"


def test_events_that_go_on_belong_to_one_request(tmp_path):
    batches = [
        [100.0, [stored(["a", "b"]), stored(["x"])]],
        [101.0, [stored(["c"], "b"), stored(["y"], "x")]],
        [102.5, [stored(["d"], "c")]],
        [110.0, [stored(["e"], "d")]],
    ]
    lines, _ = events(tmp_path, batches)
    assert ids(lines) == [[0, 1, 2, 3], [4, 5], [0, 1, 2, 3, 6]]
    lines, _ = events(tmp_path, batches, "--merge-seconds", 0.5)
    assert ids(lines) == [[0, 1], [2], [0, 1, 3], [2, 4], [0, 1, 3, 5], [0, 1, 3, 5, 6]]


def test_reused_blocks_that_are_reported_begin_a_request(tmp_path):
    """As vLLM reports them in its mode "full": a first block has no block before it."""
    lines, _ = events(
        tmp_path,
        [
            [1.0, [stored(["a", "b"], session_id="s")]],
            [1.5, [stored(["a", "b"], session_id="t"), stored(["c"], "b", session_id="t")]],
            [1.6, [stored(["d"], "b", session_id="s")]],
        ],
    )
    assert ids(lines) == [[0, 1, 2], [0, 1, 3]]
    assert [line["session_id"] for line in lines] == ["s", "t"]


def test_one_tier_and_one_group_of_layers_are_taken(tmp_path):
    batches = [
        [
            1.0,
            [
                stored(["a"], size=0),  # Like vLLM's offloading for its tier.
                stored(["a", "b"]),
                stored(["A"], size=32, medium="CPU"),
                stored(["a", "b"], group_idx=1),
                stored(["b"], "a", medium="CPU"),
            ],
        ]
    ]
    lines, says = events(tmp_path, batches)
    assert ids(lines) == [[0, 1]]
    assert "note: 1 events ignored: medium 'CPU', blocks of 32, group 0" in says
    assert "note: 1 events ignored: medium 'GPU', blocks of 16, group 1" in says
    lines, _ = events(tmp_path, batches, "--medium", "cpu", "--block-size", 32)
    assert ids(lines) == [[0]] and lines[0]["block_size"] == 32
    lines, _ = events(tmp_path, batches, "--medium", "CPU")  # The size is that of its first event.
    assert ids(lines) == [[0]] and lines[0]["block_size"] == 32


def test_events_in_the_form_of_lists_are_read(tmp_path):
    lines, _ = events(
        tmp_path,
        [[1.0, [["BlockStored", [7, 8], None, [0] * 32, 16, None, "GPU"], ["AllBlocksCleared"]]]],
    )
    assert ids(lines) == [[0, 1]]


def test_what_was_stored_before_the_recording_is_said(tmp_path):
    lines, says = events(tmp_path, [[1.0, [stored(["c"], "b")]]])
    assert ids(lines) == [[0, 1]]
    assert "note: 1 requests whose first blocks were stored before the recording" in says


@pytest.mark.parametrize("line", ["{", "1", "[]", '["x", []]', '{"ts": 1}', "[1, 2]"])
def test_a_batch_that_is_none_is_named(tmp_path, line):
    path = tmp_path / "events.jsonl"
    path.write_text(line)
    ended = run("events", path)
    assert ended.returncode == 1
    assert f"{path}:1: not a batch of KV events" in ended.stderr


def test_a_long_recording_forgets_requests_that_ended():
    lines = []

    class File:
        write = staticmethod(lines.append)

    recorder = record_trace.EventRecorder(record_trace.TraceWriter(File))
    for number in range(20_000):
        recorder.batch(10.0 * number, [stored([number])])
    assert len(recorder._tips) < 3000 and len(recorder._requests) == 1
    recorder.finish()
    assert len(lines) == 20_000


def test_the_output_may_be_gzip(tmp_path):
    path = write_lines(tmp_path / "log.jsonl", [lookup(1, ["a"], 256)])
    output = tmp_path / "trace.jsonl.gz"
    assert run("lookups", path, "-o", output).returncode == 0
    with gzip.open(output, "rt") as file:
        assert json.loads(file.read())["hash_ids"] == [0]
