"""What `cmake --install` puts where."""

import subprocess

import pytest
from deployed import DEPLOY, ROOT

BUILD = ROOT / "build/release"


def test_the_service_is_installed_with_the_command(tmp_path):
    if not (BUILD / "apps/larder/share/larder.1").exists():
        pytest.skip("SKIPPED (needs build/release: cmake --build --preset release)")
    subprocess.run(["cmake", "--install", BUILD, "--prefix", tmp_path], check=True)
    for name, source in {
        "lib/systemd/system/larder-server.service": "systemd/larder-server.service",
        "lib/sysusers.d/larder.conf": "systemd/larder.conf",
        "share/larder/larder.toml": "larder.toml",
    }.items():
        assert (tmp_path / name).read_bytes() == (DEPLOY / source).read_bytes()
    assert (tmp_path / "share/man/man1/larder.1").exists()
    subprocess.run([tmp_path / "bin/larder", "--version"], check=True)
