"""`lmcache bench l2` of an unmodified LMCache, over larder: every value is verified."""

import json
import os
import subprocess
import sys

import pytest
from l2_json import l2_of


@pytest.mark.parametrize("form", ["native_plugin", "plugin"])
@pytest.mark.parametrize("size_kib", [64, 1024])
def test_lmcaches_own_bench_verifies_every_value(tmp_path, size_kib, form):
    l2 = l2_of(form, url=f"log:{tmp_path}/kv?capacity=1GiB&max_value=4MiB&min_free=0")
    ended = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "lmcache"), "bench", "l2"]
        + ["--l2-adapter", json.dumps(l2), "--num-keys", "32", "--in-flight", "4"]
        + ["--data-size-kb", str(size_kib), "--rounds", "2", "--warmup-rounds", "1"]
        + ["--l1-align-bytes", "4096", "--lookup-max-hit-rate", "0.5", "--no-skip-verify"]
        + ["--format", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "LMCACHE_DISABLE_BANNER": "1"},
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    # It exits 0 on failures, too: its own words and numbers count.
    assert "All 128 keys data verified OK" in ended.stdout
    begin = ended.stdout.index('{\n  "title"')
    metrics = json.JSONDecoder().raw_decode(ended.stdout[begin:])[0]["metrics"]
    by_operation = {row["operation"]: row for name, row in metrics.items() if name != "config"}
    assert by_operation["Store"]["total_success"] == 256
    assert by_operation["Load"]["total_success"] == 256
    assert by_operation["Lookup"]["actual_hit_rate"] == 0.5
