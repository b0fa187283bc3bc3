"""Returning users whose KV cache does not fit into vLLM's memory: larder beside vLLM's tier `fs`.

    python bench/vllm_pressure.py MODEL DIR [--users 8] [--tokens 2048] [--returns 2] [--rounds 3]

Each user sends a prompt, one after another; then all of them come back at once with their prompt
and some more, `--returns` times. The host tier has a quarter of the rows that all of them need, the
device hardly more than one of them. Every round is one engine's life with each tier, in turns, on
an empty directory. Prints for each tier the share of the tokens that could have come from the cache
and did, and the time to the first token. Needs vLLM on CPUs: the python of the environment `engine`
(scripts/python_env.sh). The copy between device and host is tests/interop/cpu_tiering_spec.py.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys

from quartiles import quartiles

INTEROP = pathlib.Path(__file__).resolve().parents[1] / "tests" / "interop"
sys.path.insert(0, str(INTEROP))
from environments import VLLM_ON_CPUS, python_path  # noqa: E402

BLOCK = 128  # Tokens of a block of vLLM's on CPUs, and of a chunk here.
NEW_TOKENS = 160


def tier_of(name, directory):
    if name == "fs":
        return {"type": "fs", "root_dir": str(directory)}
    url = f"log:{directory}/kv?capacity=2GiB&min_free=0"
    return {"type": "LarderTier", "module_path": "larder.vllm", "url": url, "revision": "bench"}


def live(asked):
    """One engine's life, in a process of its own."""
    from vllm import LLM, SamplingParams
    from vllm.config import KVTransferConfig

    engine = LLM(
        model=asked["model"],
        enforce_eager=True,
        max_model_len=asked["tokens"] + asked["returns"] * NEW_TOKENS + BLOCK,
        num_gpu_blocks_override=asked["device_blocks"],
        disable_log_stats=False,
        kv_transfer_config=KVTransferConfig(
            kv_connector="OffloadingConnector",
            kv_role="kv_both",
            kv_connector_extra_config={
                "spec_name": "CpuTieringSpec",
                "spec_module_path": "cpu_tiering_spec",
                "cpu_bytes_to_use": asked["host_rows"] * asked["row_bytes"],
                "block_size": BLOCK,
                "secondary_tiers": [asked["tier"]],
            },
        ),
    )
    one = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    engine.generate({"prompt_token_ids": [3, 4, 5]}, one, use_tqdm=False)
    chooser = random.Random(asked["seed"])

    def more(count):
        return [chooser.randrange(3, 500) for _ in range(count)]

    prompts = [more(asked["tokens"]) for _ in range(asked["users"])]
    for prompt in prompts:
        engine.generate({"prompt_token_ids": prompt}, one, use_tqdm=False)
    cached, possible, first_token = 0, 0, []
    for _ in range(asked["returns"]):
        possible += sum(len(prompt) // BLOCK * BLOCK for prompt in prompts)
        prompts = [prompt + more(NEW_TOKENS) for prompt in prompts]
        given = [{"prompt_token_ids": prompt} for prompt in prompts]
        for answer in engine.generate(given, one, use_tqdm=False):
            cached += answer.num_cached_tokens
            first_token.append(answer.metrics.first_token_latency)
    print(json.dumps({"share": cached / possible, "first_token": first_token}), flush=True)


def run_one(name, given, seed):
    directory = pathlib.Path(given.directory) / f"pressure-{name}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    chunks = given.users * (given.tokens // BLOCK)
    asked = {
        "model": given.model,
        "tier": tier_of(name, directory),
        "users": given.users,
        "tokens": given.tokens,
        "returns": given.returns,
        "host_rows": chunks // 4,
        "row_bytes": row_bytes(given.model),
        "device_blocks": given.tokens // BLOCK * 3 // 2 + 8,
        "seed": seed,
    }
    ended = subprocess.run(
        [sys.executable, __file__, "--live", json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **VLLM_ON_CPUS, "PYTHONPATH": python_path(INTEROP)},
    )
    shutil.rmtree(directory, ignore_errors=True)
    lines = [line for line in ended.stdout.splitlines() if line.startswith('{"share"')]
    if not lines:
        sys.exit(f"{name}: {ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return json.loads(lines[0])


def row_bytes(model):
    """Bytes of a chunk: keys and values of a block in every layer, in bf16."""
    config = json.loads((pathlib.Path(model) / "config.json").read_text())
    heads = config.get("num_key_value_heads") or config["num_attention_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return config["num_hidden_layers"] * 2 * heads * dim * 2 * BLOCK


def main():
    if sys.argv[1:2] == ["--live"]:
        live(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("directory")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--returns", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = {"fs": [], "larder": []}
    for number in range(given.rounds):
        names = list(rounds) if number % 2 == 0 else list(rounds)[::-1]
        for name in names:
            ended = run_one(name, given, seed=number)
            rounds[name].append(ended)
            print(
                f"round {number + 1} {name:6}: {ended['share']:6.1%} cached, first token "
                f"{statistics.median(ended['first_token']):.3f} s (median), "
                f"{max(ended['first_token']):.3f} s (slowest)",
                flush=True,
            )
    for name, lives in rounds.items():
        share, low, high = quartiles([life["share"] for life in lives])
        times = [seconds for life in lives for seconds in life["first_token"]]
        middle, fast, slow = quartiles(times)
        print(
            f"{name:6}: {share:.1%} cached ({low:.1%} to {high:.1%}), first token {middle:.3f} s "
            f"({fast:.3f} to {slow:.3f}), slowest {max(times):.3f} s"
        )


if __name__ == "__main__":
    main()
