"""larder.vllm under the real base classes and the real manager of four releases of vLLM: the Python
files of the official wheels, which scripts/python_env.sh unpacks. No engine, no model, no GPU."""

import os
import pathlib
import subprocess
import sys

import pytest
from environments import python_path

HERE = pathlib.Path(__file__).parent
RELEASES = HERE.parents[1] / "build" / "venv" / "vllm"


@pytest.mark.parametrize("release", ["0.28.0", "0.30.0", "0.32.0", "0.33.0"])
def test_the_tier_keeps_the_contract_of(release, tmp_path):
    unpacked = RELEASES / release
    assert unpacked.is_dir(), f"scripts/python_env.sh engine makes {unpacked}"
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", HERE / "vllm_tier_contract.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": python_path(unpacked),
            "VLLM_TARGET_DEVICE": "cpu",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        },
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-5000:]
    assert f"good: vllm {release}" in ended.stdout
