"""End to end: an unmodified vLLM on CPUs with larder as a secondary tier of its KV offloading, and
no LMCache. Runs in the environment `engine` (scripts/python_env.sh). An engine's life takes half a
minute.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import sysconfig

import pytest
from broken_stores import fault_of
from documented_setups import ROOT, commands_of, option_of, replaced, variable_of
from environments import VLLM_ON_CPUS, python_path

HERE = pathlib.Path(__file__).parent
CHUNK = 256
CHUNKS = 5  # In a prompt of 1,500 tokens.
TEXT = ROOT / "docs" / "architecture.md"

CPU_SPEC = {
    "spec_name": "CpuTieringSpec",
    "spec_module_path": "cpu_tiering_spec",
    "cpu_bytes_to_use": 128 << 20,
    "block_size": CHUNK,
}


def config_of(**tier):
    """A kv-transfer-config with larder as its tier."""
    tiers = [{"type": "LarderTier", "module_path": "larder.vllm", "revision": "r1", **tier}]
    return {
        "kv_connector": "OffloadingConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {**CPU_SPEC, "secondary_tiers": tiers},
    }


def serve(model, config=None, env=None, python=sys.executable, **asked):
    """(what vllm_tier_engine.py prints, its log) of one engine's life."""
    chooser = random.Random(7)
    given = {
        "model": str(model),
        "config": config,
        "tokens": 24,
        "prompts": [[chooser.randrange(3, 500) for _ in range(1500)]],
        **asked,
    }
    removed = {name: value for name, value in os.environ.items() if not name.startswith("LARDER")}
    ended = subprocess.run(
        [python, HERE / "vllm_tier_engine.py", json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={
            **removed,
            **VLLM_ON_CPUS,
            "PYTHONPATH": python_path(HERE),
            **(env or {}),
        },
    )
    log = ended.stdout + ended.stderr
    assert ended.returncode == 0, log[-6000:]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith('{"answers"')]
    return json.loads(line), log


def metric(answer, name, label=""):
    """The sum of a metric of vLLM over its labels, or over those with a label of this value."""
    found = 0
    for key, value in answer["metrics"].items():
        own, _, labels = key.removesuffix("}").partition("{")
        if own == f"vllm:{name}" and (not label or label in labels.split(",")):
            found += value
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """(a tiny random model, what it answers without a tier)."""
    directory = tmp_path_factory.mktemp("tiny") / "model"
    subprocess.run(
        [sys.executable, HERE / "vllm_process.py", "model", directory],
        check=True,
        capture_output=True,
        timeout=300,
    )
    answer, _ = serve(directory)
    tokens = answer["answers"][0]["tokens"]
    assert len(set(tokens)) > 4, "an output that wrong bytes would change"
    assert answer["transfer"] is None
    return directory, tokens


@pytest.fixture(scope="module")
def filled(tiny, tmp_path_factory):
    """Makes a log, or a directory of files, with the prompt's chunks: an engine writes them."""
    model, tokens = tiny
    stores = {}

    def of_kind(kind):
        if kind not in stores:
            directory = tmp_path_factory.mktemp("filled") / kind
            url = f"{kind}:{directory}?capacity=1GiB&min_free=0"
            answer, log = serve(model, config_of(url=url))
            assert answer["answers"][0]["tokens"] == tokens, "the first engine computes it"
            assert answer["answers"][0]["cached"] == 0
            assert "is a tier for chunks of" in log
            stores[kind] = (directory, url)
        return stores[kind]

    return of_kind


def copy_of(filled, kind, tmp_path):
    """A store of the test's own, with what the filled one holds."""
    directory, url = filled(kind)
    copied = tmp_path / kind
    subprocess.run(["cp", "-a", directory, copied], check=True)
    return copied, url.replace(str(directory), str(copied))


def is_served(answer, tokens):
    return answer["answers"][0]["tokens"] == tokens


@pytest.mark.parametrize("kind", ["log", "fs"])
def test_a_prompt_is_served_from_larder_after_a_restart(tiny, filled, tmp_path, kind):
    model, tokens = tiny
    _, url = copy_of(filled, kind, tmp_path)
    answer, _ = serve(model, config_of(url=url))
    assert answer["answers"][0]["cached"] == CHUNKS * CHUNK, "on the first request of the process"
    assert is_served(answer, tokens)
    assert metric(answer, "kv_offload_tiering_promotion_job_failures") == 0


def test_a_request_s_hints_are_carried_out_for_its_chunks(tiny, filled, tmp_path):
    model, tokens = tiny
    _, url = copy_of(filled, "log", tmp_path)
    action = {"action_id": "1", "action_version": "1.0", "payload": {"ttl_seconds": 600}}
    actions = [{"action_type": "kv.retain", **action}, {"action_type": "kv.pin", **action}]
    hints = {"protocol_version": "0.1", "message_id": "m", "actions": actions}
    answer, log = serve(model, config_of(url=url), hints=hints)
    assert is_served(answer, tokens)
    assert answer["answers"][0]["cached"] == CHUNKS * CHUNK
    assert metric(answer, "kv_offload_larder_chunks", "hinted") == CHUNKS
    assert metric(answer, "kv_offload_larder_hints", "taken") == 1
    assert metric(answer, "kv_offload_larder_hints", "unsupported") == 1
    assert log.count("this store has no pin") == 1


def test_other_weights_of_one_name_find_nothing(tiny, filled, tmp_path):
    model, tokens = tiny
    _, url = copy_of(filled, "log", tmp_path)
    answer, _ = serve(model, config_of(url=url, revision="r2"))
    assert answer["answers"][0]["cached"] == 0
    assert is_served(answer, tokens)


def test_corrupted_chunks_are_computed(tiny, filled, tmp_path):
    model, tokens = tiny
    directory, url = copy_of(filled, "log", tmp_path)
    for segment in directory.iterdir():
        if segment.name.startswith("segment"):
            with open(segment, "r+b") as file:
                for offset in range(200_000, 4 << 20, 300_000):  # A chunk has half a MiB.
                    file.seek(offset)
                    byte = file.read(1)
                    if byte.strip(b"\0"):
                        file.seek(offset)
                        file.write(bytes([byte[0] ^ 0x10]))
    answer, _ = serve(model, config_of(url=url))
    assert is_served(answer, tokens), "recomputed, not served wrong"
    assert answer["answers"][0]["cached"] < CHUNKS * CHUNK
    assert metric(answer, "kv_offload_tiering_promotion_job_failures") < 5


def test_truncated_files_are_computed_without_loading_them_for_ever(tiny, filled, tmp_path):
    model, tokens = tiny
    directory, url = copy_of(filled, "fs", tmp_path)
    files = [path for path in directory.rglob("*") if path.is_file()]
    files = [path for path in files if path.stat().st_size > 65536]
    assert len(files) == CHUNKS
    for path in files:
        os.truncate(path, path.stat().st_size // 2)
    answer, _ = serve(model, config_of(url=url))
    assert is_served(answer, tokens)
    assert answer["answers"][0]["cached"] == 0
    assert metric(answer, "kv_offload_tiering_promotion_job_failures") < 5


@pytest.mark.parametrize(
    "fault",
    [
        {"error_rate": 1, "pattern": "get:*"},
        {"stall_rate": 1, "stall": "10m", "pattern": "get:*"},
    ],
    ids=["failing", "stalled"],
)
def test_loads_that_fail_or_stall_are_computed(tiny, filled, tmp_path, fault):
    """The store says that it has the chunks, and does not give them: the case that livelocks a tier
    which goes on saying so."""
    model, tokens = tiny
    _, url = copy_of(filled, "log", tmp_path)
    answer, log = serve(model, config_of(url=fault_of(url, **fault), load_timeout=1))
    assert is_served(answer, tokens)
    assert answer["answers"][0]["cached"] == 0
    assert 1 <= metric(answer, "kv_offload_tiering_promotion_job_failures") < 5
    assert log.count("chunks cannot be loaded and are computed") == 1, "said once"


def test_stores_that_stall_hold_up_nothing(tiny, tmp_path):
    model, tokens = tiny
    url = fault_of("memory:?capacity=256MiB", stall_rate=1, stall="10m", pattern="set:*;exists:*")
    answer, _ = serve(model, config_of(url=url, store_timeout=1, lookup_timeout=1))
    assert is_served(answer, tokens)


def test_a_store_that_cannot_be_opened_is_no_tier(tiny, tmp_path):
    model, tokens = tiny
    (tmp_path / "file").write_text("no directory")
    answer, log = serve(model, config_of(url=f"log:{tmp_path}/file/kv?capacity=1GiB"))
    assert is_served(answer, tokens)
    assert log.count("the tier cannot be used, and the engine goes on without it") == 1


SETTINGS = {"LARDER_VLLM": json.dumps({**CPU_SPEC, "tier": {"revision": "r1"}})}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The python of a new virtual environment into which pip installed larder's wheel, and which has
    everything else from the environment of this test."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = ["-m", "pip", "-q", "--disable-pip-version-check"]
    # As scripts/python_env.sh has it, whose build it takes.
    build = [*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", folder, ROOT]
    subprocess.run(
        [sys.executable, *build, "--config-settings=cmake.define.LARDER_WERROR=ON"],
        check=True,
        env={"CXX": "c++", **os.environ},
    )
    (built,) = folder.glob("larder-*.whl")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([python, *pip, "install", "--no-index", "--no-deps", built], check=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = subprocess.run(
        [python, "-c", "import larder; print(larder.__file__)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.startswith(str(site))
    return python


def test_the_wheel_and_the_variable_alone_serve_from_larder_after_a_restart(tiny, wheel, tmp_path):
    """docs/vllm.md, "From nothing to vLLM with larder", with a store for a small machine. SETTINGS is for
    CPUs, on which vLLM has no offloading."""
    model, tokens = tiny
    (words,) = commands_of("vllm.md", "^LARDER=")
    url = replaced(
        variable_of(words, "LARDER"), {"/data/kv?capacity=200GiB": f"{tmp_path}/kv?capacity=1GiB"}
    )
    lives = [serve(model, env={"LARDER": url, **SETTINGS}, python=wheel) for _ in range(2)]
    for answer, log in lives:
        assert answer["transfer"] == "OffloadingConnector"
        assert is_served(answer, tokens)
        assert f"larder: log:{tmp_path}/kv is a tier for chunks of" in log
        assert "the engine starts without it" not in log
    cached = [answer["answers"][0]["cached"] for answer, _ in lives]
    assert cached == [0, CHUNKS * CHUNK]


def test_the_documented_configuration_serves_and_wins_over_the_variable(tiny, wheel, tmp_path):
    """docs/vllm.md, "With a configuration of your own", with sizes and a store for a small machine."""
    model, tokens = tiny
    (words,) = commands_of("vllm.md", "^vllm serve")
    config = replaced(
        option_of(words, "--kv-transfer-config"),
        {
            "/data/kv?capacity=200GiB": f"{tmp_path}/explicit?capacity=512MiB",
            "34359738368": str(CPU_SPEC["cpu_bytes_to_use"]),
            "TieringOffloadingSpec": CPU_SPEC["spec_name"],
        },
    )
    extra = config["kv_connector_extra_config"]
    extra |= {"spec_module_path": CPU_SPEC["spec_module_path"], "block_size": CHUNK}
    variable = {"LARDER": f"log:{tmp_path}/variable?capacity=512MiB", **SETTINGS}
    answers = [serve(model, config, env=variable, python=wheel)[0] for _ in range(2)]
    for answer in answers:
        assert answer["extra"] == extra
        assert is_served(answer, tokens)
    assert [answer["answers"][0]["cached"] for answer in answers] == [0, CHUNKS * CHUNK]
    assert not (tmp_path / "variable").exists()


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"LARDER": "lgo:/data/kv", **SETTINGS}, "lgo"),
        ({"LARDER": "memory:", "LARDER_VLLM": "{"}, "LARDER_VLLM is no JSON"),
        ({"LARDER": "memory:"}, "vLLM has no KV offloading on cpu"),
    ],
    ids=["spec", "settings", "platform"],
)
def test_a_wrong_variable_is_told_once_and_the_engine_serves(tiny, wheel, variables, reason):
    model, tokens = tiny
    answer, log = serve(model, env=variables, python=wheel)
    assert answer["transfer"] is None
    assert is_served(answer, tokens)
    (line,) = [line for line in log.splitlines() if "the engine starts without it" in line]
    assert "WARNING" in line and reason in line


def test_smollm2_answers_the_same_after_a_restart(tmp_path):
    model = tmp_path / "model"
    subprocess.run(
        [sys.executable, HERE / "make_smollm2.py", model],
        check=True,
        capture_output=True,
        timeout=300,
    )
    asked = {"text": str(TEXT), "prompts": []}
    config = config_of(url=f"log:{tmp_path}/kv?capacity=2GiB&min_free=0", revision="q4_1")
    # A prompt that is computed in two parts is rounded otherwise than in one: the reference has the
    # first chunks from a cache, too, vLLM's own.
    first, _ = serve(model, config, cuts=[3 * CHUNK, 1000], **asked)
    second, _ = serve(model, config, cuts=[1000], **asked)
    (_, reference), (restarted,) = first["answers"], second["answers"]
    assert (first["answers"][0]["cached"], reference["cached"]) == (0, 3 * CHUNK)
    assert restarted["cached"] == 3 * CHUNK
    assert restarted["tokens"] == reference["tokens"]
