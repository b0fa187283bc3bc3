"""`lmcache bench l2` of larder beside LMCache's own file adapters, in turn, on one directory.

    python bench/lmcache_bench.py DIRECTORY [--rounds 3] [--size-kib 1024] [--workers 4,32] [--buffered]
                                  [--only fs_native --only "larder fs"]

Run it with the python of the environment `interop` (scripts/python_env.sh). Every value is verified.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys


def larder(**parameters):
    return {
        "type": "native_plugin",
        "module_path": "larder.lmcache",
        "class_name": "Connector",
        "adapter_params": parameters,
    }


def adapters(directory, workers, buffered):
    url = f"log:{directory}/larder?capacity=4GiB&max_value=8MiB&min_free=0"
    made = {"larder log": larder(url=url)}
    ways = {"O_DIRECT": True, "buffered": False} if buffered else {"O_DIRECT": True}
    for way, is_direct in ways.items():
        for count in workers:
            files = {"type": "fs_native", "num_workers": count, "use_odirect": is_direct}
            name = f"{count} workers, {way}"
            path = f"{directory}/{count}-{way}"
            made[f"larder fs, {name}"] = larder(base_path=f"{path}-larder", **files)
            made[f"fs_native, {name}"] = {"base_path": f"{path}-native", **files}
    made["fs, O_DIRECT"] = {"type": "fs", "base_path": f"{directory}/fs", "use_odirect": True}
    return made


def measure(adapter, size_kib):
    command = [os.path.join(os.path.dirname(sys.executable), "lmcache"), "bench", "l2"]
    command += ["--l2-adapter", json.dumps(adapter), "--num-keys", str(max(1, 65536 // size_kib))]
    command += ["--in-flight", "4", "--data-size-kb", str(size_kib), "--rounds", "4"]
    command += ["--warmup-rounds", "1", "--l1-align-bytes", "4096", "--no-skip-verify"]
    ended = subprocess.run(
        [*command, "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LMCACHE_DISABLE_BANNER": "1"},
    )
    assert "data verified OK" in ended.stdout, ended.stdout[-2000:]
    begin = ended.stdout.index('{\n  "title"')
    metrics = json.JSONDecoder().raw_decode(ended.stdout[begin:])[0]["metrics"]
    rates = {}
    for key, row in metrics.items():
        if not key.startswith("op_"):
            continue
        if row["operation"] != "Lookup":
            assert row["total_success"] == row["total_keys"], row
        rates[row["operation"]] = row["throughput_avg_mbps"] * 1.048576e-3 or row["ops_per_sec_avg"]
    return rates


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-kib", type=int, default=1024)
    parser.add_argument("--workers", default="4", help="of the file adapters, as in 4,32")
    parser.add_argument("--buffered", action="store_true", help="the file adapters without O_DIRECT too")
    parser.add_argument("--only", action="append", default=[], help="adapters whose name has this")
    given = parser.parse_args()
    workers = [int(count) for count in given.workers.split(",")]
    chosen = {
        name: adapter
        for name, adapter in adapters(given.directory, workers, given.buffered).items()
        if not given.only or any(only in name for only in given.only)
    }
    results = {}
    for _ in range(given.rounds):
        for name, adapter in chosen.items():
            for part in os.listdir(given.directory):
                shutil.rmtree(os.path.join(given.directory, part))
            for operation, rate in measure(adapter, given.size_kib).items():
                results.setdefault((operation, name), []).append(rate)
    for (operation, name), rates in sorted(results.items()):
        unit = "keys/s" if operation == "Lookup" else "GB/s"
        print(
            f"{operation:7} {name:32} {statistics.median(rates):12.3f} {unit}"
            f"  ({min(rates):.3f} to {max(rates):.3f})"
        )


if __name__ == "__main__":
    main()
