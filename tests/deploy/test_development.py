"""What is installed for programs in C++ and for plugins, used by projects that know nothing else of larder."""

import os
import re
import shutil
import subprocess

import larder
import pytest
from deployed import ROOT

BUILD = ROOT / "build/release"
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="session")
def prefix(tmp_path_factory):
    if not (BUILD / "liblarder.a").exists():
        pytest.skip("SKIPPED (needs build/release: cmake --build --preset release)")
    path = tmp_path_factory.mktemp("installed")
    subprocess.run(["cmake", "--install", BUILD, "--strip", "--prefix", path], check=True, capture_output=True)
    return path


def run(*command, **environment):
    """(exit code, what it printed)."""
    ended = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


def must(*command, **environment):
    code, text = run(*command, **environment)
    assert code == 0, text
    return text


@pytest.fixture(scope="session")
def plugins(prefix, tmp_path_factory):
    """The example, the tests' own one, and a file that is none, built outside of the sources."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = {
        "drawer": EXAMPLES / "c_plugin/drawer.c",
        "test": ROOT / "src/larder/connectors/plugin/test_plugin.c",
    }
    for name, source in sources.items():
        copy = shutil.copy(source, folder)
        flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        must("cc", *flags, "-I", prefix / "include", copy, "-o", folder / f"{name}.so")
    (folder / "text.so").write_text("no shared object")
    return folder


def test_a_project_finds_it(prefix, tmp_path):
    shutil.copytree(EXAMPLES / "cpp_program", tmp_path / "project")
    build = tmp_path / "build"
    must("cmake", "-S", tmp_path / "project", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    must("cmake", "--build", build)
    assert must(build / "program") == "memory: loaded\n"
    log = f"log:{tmp_path}/store?capacity=256MiB&min_free=0"
    assert must(build / "program", log) == "log: loaded\n"
    code, text = run(build / "program", "memroy:")
    assert code == 1 and "did you mean 'memory'" in text


def test_pkg_config_knows_it(prefix, tmp_path):
    # The package file tells where it lies, so a prefix that was moved works, too.
    moved = tmp_path / "moved"
    shutil.copytree(prefix, moved)
    path = str(next(moved.rglob("larder.pc")).parent)
    flags = must("pkg-config", "--cflags", "--libs", "larder", PKG_CONFIG_PATH=path).split()
    assert f"{moved}/include" in must(
        "realpath", *[word[2:] for word in flags if word.startswith("-I")]
    )
    source = EXAMPLES / "cpp_program/main.cc"
    must("g++", "-std=c++20", source, *flags, "-o", tmp_path / "program")
    assert must(tmp_path / "program") == "memory: loaded\n"


def test_another_minor_version_is_refused(prefix, tmp_path):
    shutil.copytree(EXAMPLES / "cpp_program", tmp_path / "project")
    listed = tmp_path / "project/CMakeLists.txt"
    listed.write_text(re.sub(r"larder 0\.\d+", "larder 0.99", listed.read_text()))
    code, text = run(
        "cmake", "-S", tmp_path / "project", "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}"
    )
    assert code != 0 and "0.99" in text


def test_what_is_installed_tells_not_where_it_was_built(prefix):
    for path in prefix.rglob("*"):
        if path.is_file():
            assert str(ROOT).encode() not in path.read_bytes(), path


def test_the_example_plugin_keeps_the_contract(prefix, plugins, tmp_path):
    program = prefix / "bin/larder"
    environment = {"LARDER_PLUGINS": str(plugins / "drawer.so")}
    assert "drawer:/data/drawer" in must(program, "connectors", "drawer", **environment)
    code, text = run(program, "conformance", f"drawer:{tmp_path}/d-{{}}", **environment)
    assert code == 0, text
    assert re.search(r"^\d\d good, 0 failed, \d skipped$", text, re.MULTILINE), text


def test_the_suite_fails_on_a_broken_plugin(prefix, plugins):
    program = prefix / "bin/larder"
    environment = {"LARDER_PLUGINS": str(plugins / "test.so")}
    for spec, rule in {
        "test:": None,
        "test:?defect=keeps_deleted": "P2",
        "test:?defect=turns_bits": "P1",
    }.items():
        command = [program, "conformance", spec, *(["--filter", rule] if rule else [])]
        code, text = run(*command, **environment)
        assert code == (1 if rule else 0), text
        assert ("FAILED" in text) == bool(rule), text
        assert not rule or re.search(rf"rule {rule}, seed \d+", text), text


def test_a_plugin_that_is_none_is_an_error(prefix, plugins):
    program = prefix / "bin/larder"
    paths = f"{plugins}/drawer.so:{plugins}/text.so"
    for command in (["connectors"], ["conformance", "memory:"], ["bench", "memory:"]):
        code, text = run(program, *command, LARDER_PLUGINS=paths)
        assert code == 2, text
        assert f"LARDER_PLUGINS: the plugin '{plugins}/text.so' cannot be loaded" in text
    code, text = run(
        program, "server", "--check", LARDER_PLUGINS="/nowhere.so", LARDER_L1_SIZE_GB="1"
    )
    assert code == 0, text  # It opens nothing.
    code, text = run(
        program,
        *["server", "--check", "--l1-size-gb", "1", "--l2-adapter", "memory:"],
        LARDER_PLUGINS="/nowhere.so",
    )
    assert code == 2 and "'/nowhere.so' does not exist" in text


def test_the_suite_wants_an_empty_store(prefix, tmp_path):
    spec = f"fs:{tmp_path}/kv"
    with larder.open(spec) as store:
        store.set("key", b"value")
    code, text = run(prefix / "bin/larder", "conformance", spec)
    assert code == 2 and "the store holds 1 keys" in text, text
    with larder.open(spec) as store:
        assert store.get("key") == b"value"
