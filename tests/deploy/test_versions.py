"""One version for everything: CMakeLists.txt has it."""

import re
import subprocess
import sys
from importlib import metadata

from deployed import LARDER, ROOT


def version():
    text = (ROOT / "CMakeLists.txt").read_text("utf-8")
    return re.search(r"project\(larder VERSION ([\d.]+)", text)[1]


def test_the_command_and_the_package_tell_it():
    told = subprocess.run([LARDER, "--version"], capture_output=True, text=True, check=True).stdout
    assert re.match(rf"larder {re.escape(version())} \(", told)
    if LARDER.startswith(sys.prefix):
        assert metadata.version("larder") == version()


def test_no_file_has_another_one():
    """Of those that people copy from."""
    for path in [
        *(ROOT / "deploy").rglob("*.yaml"),
        ROOT / "deploy/container/Containerfile",
        ROOT / "docs/deploy.md",
    ]:
        for found in re.findall(r"\blarder:(\d[\d.]*\d)", path.read_text("utf-8")):
            assert found == version(), path


def test_the_changelog_is_ahead_of_it():
    """What is not released stands above the version that is."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0].startswith(version())
