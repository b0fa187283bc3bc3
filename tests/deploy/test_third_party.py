"""docs/third_party.md against the binaries and the build files."""

import re
import sys

from deployed import LARDER, ROOT

sys.path.append(str(ROOT / "scripts"))
import third_party

PAGE = (ROOT / "docs/third_party.md").read_text("utf-8")
# Of tests and benchmarks, and what finds others.
NOT_IN_PROGRAMS = {"GTest", "PkgConfig", "Python", "Threads", "benchmark"}
# The names that libraries have in CMake, where they are others.
NAMES = {
    "fmt": "libfmt",
    "spdlog": "libspdlog",
    "OpenSSL": "libssl",
    "tomlplusplus": "libtomlplusplus",
    "libzmq": "libzmq",
    "zlib": "libz",
    "cpp-httplib": "libcpp-httplib",
}


def listed():
    """The names in the first column of every table, each with its row."""
    rows = re.findall(r"^\| ([^|]+) \|([^|]*\|[^|]*\|[^|]*)\|$", PAGE, re.MULTILINE)
    return {name: row for names, row in rows for name in re.split(r", | with ", names)}


def library(name):
    """libzmq of libzmq.so.5."""
    return re.sub(r"\.so\b.*", "", name)


def test_every_library_of_the_binaries_has_a_row():
    rows = listed()
    linked = {library(name) for name in third_party.linked(LARDER)}
    module = next((ROOT / "build/venv/test").rglob("_larder*.so"), None)
    if module:
        linked |= {library(name) for name in third_party.linked(module)}
    assert len(linked) > 10
    assert linked - set(rows) == set()
    # And no row is of something that is gone; the headers are compared with the build files.
    headers = {name for name in rows if not name.startswith("lib") and name != "library"}
    assert set(rows) - headers - linked - {"library"} == set()


def test_every_package_of_the_build_has_a_row():
    rows = listed()
    text = (ROOT / "CMakeLists.txt").read_text("utf-8")
    text += (ROOT / "python/module/CMakeLists.txt").read_text("utf-8")
    found = set(re.findall(r"find_package\((\S+?)[ )]", text))
    found |= {words.split()[-1] for words in re.findall(r"pkg_check_modules\(([^)]*)\)", text)}
    wanted = {NAMES.get(name, name) for name in found - NOT_IN_PROGRAMS}
    assert {"nlohmann_json", "liburing", "nanobind"} <= wanted
    assert wanted - set(rows) == set()


def test_each_row_names_a_licence():
    for name, row in listed().items():
        assert len(row.split("|")[1].strip()) >= 3, name
