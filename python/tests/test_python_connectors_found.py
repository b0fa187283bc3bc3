"""How connectors written in Python are named and found; the example package."""

import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

import pytest
from conftest import run_python
from python_connector_support import Dictionary

import larder
from larder import connectors

STORE = """
from larder.connectors import PythonConnector
class Connector(PythonConnector):
    def __init__(self, location="", **given): self.given = given; self.values = {}
    def get_into(self, key, buffer):
        if key not in self.values: return None
        buffer[:] = self.values[key]
        return len(buffer)
    def set(self, key, data): self.values[key] = bytes(data)
    def size(self, key): return len(self.values[key]) if key in self.values else None
    def delete(self, key): return self.values.pop(key, None) is not None
"""


def distribution(folder, name, entry_points):
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "".join(f"{key} = {value}\n" for key, value in entry_points)
    (info / "entry_points.txt").write_text(f"[larder.connectors]\n{lines}")


def run_with(folder, code):
    ended = run_python(textwrap.dedent(code), env={"PYTHONPATH": str(folder)})
    assert ended.returncode == 0, ended.stderr
    return ended


def test_an_entry_point_is_found(tmp_path):
    (tmp_path / "brought.py").write_text(STORE)
    distribution(tmp_path, "brought", [("brought", "brought:Connector")])
    ended = run_with(
        tmp_path,
        """
        import sys, larder
        assert "larder.connectors" not in sys.modules
        larder.open("memory:").close()
        assert "larder.connectors" not in sys.modules     # Found when it is needed, not before.
        for spec in ("brought:/data/kv?chunk=1MiB", '{"type": "brought", "location": "/data"}',
                     "fault:?inner=brought:/data"):
            with larder.open(spec) as store:
                store.set_many(["k"], [b"v"])
                assert store.get("k") == b"v"
                print(store.report().type)
        try:
            larder.open("brougth:")
        except larder.OpenError as error:
            print(error)
        """,
    )
    assert ended.stdout.split("\n")[:3] == ["brought", "brought", "fault"]
    assert "unknown connector type 'brougth'" in ended.stdout
    assert "from Python packages: brought" in ended.stdout


def test_a_module_that_is_dropped_in_is_found(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, name in ((first, "one_store"), (second, "other")):
        (folder / "larder_connectors").mkdir(parents=True)
        (folder / "larder_connectors" / f"{name}.py").write_text(STORE)
    ended = run_with(
        f"{first}{os.pathsep}{second}",
        f"""
        import pathlib, sys, larder
        for name in ("one-store", "one_store", "other"):
            with larder.open(f"{{name}}:") as store:
                store.set_many(["k"], [b"v"])
                assert store.get("k") == b"v"
        # Also what comes later, and nothing else is imported.
        late = pathlib.Path({str(second)!r}, "larder_connectors", "late.py")
        late.write_text({STORE!r})
        late.with_name("unused.py").write_text("raise SystemExit('imported without need')")
        with larder.open("late:") as store:
            assert store.exists(["k"]) == [False]
        try:
            larder.open("nobody:")
        except larder.OpenError as error:
            print(error)
        """,
    )
    assert "from Python packages: late, one_store, other, unused" in ended.stdout


def test_a_name_that_larder_has_is_refused(tmp_path):
    (tmp_path / "brought.py").write_text(STORE)
    (tmp_path / "larder_connectors").mkdir()
    (tmp_path / "larder_connectors" / "log.py").write_text("raise SystemExit('imported')")
    distribution(
        tmp_path, "brought", [("memory", "brought:Connector"), ("Upper", "brought:Connector")]
    )
    ended = run_with(
        tmp_path,
        """
        import larder
        try:
            larder.open("absent:")
        except larder.OpenError as error:
            print(error)
        with larder.open("memory:") as store:
            print(store.report().integrity)
        """,
    )
    assert "connector named 'memory', which is not used: larder has a connector of" in ended.stderr
    assert "connector named 'log'" in ended.stderr and "'Upper'" in ended.stderr
    assert ended.stdout.endswith("checked\n")
    with pytest.raises(ValueError, match="larder's own"):
        connectors.register("memory", Dictionary)
    with pytest.raises(ValueError, match="larder's own"):
        connectors.register("python", Dictionary)
    with pytest.raises(ValueError, match="lower-case"):
        connectors.register("My Store", Dictionary)


def test_a_name_that_two_bring_is_refused_until_the_class_is_named(tmp_path):
    (tmp_path / "brought.py").write_text(STORE)
    distribution(tmp_path, "one", [("same", "brought:Connector")])
    distribution(tmp_path, "two", [("same", "other:Connector")])
    ended = run_with(
        tmp_path,
        """
        import larder
        larder.open("python:brought:Connector").close()
        try:
            larder.open("same:")
        except larder.OpenError as error:
            print(error)
        """,
    )
    assert "brought:Connector and other:Connector" in ended.stdout
    connectors.register("same", Dictionary)
    try:
        with pytest.raises(ValueError, match="registered already"):
            connectors.register("same", Dictionary)
    finally:
        connectors.unregister("same")


@pytest.mark.parametrize(
    "spec, texts",
    [
        ("python:", ["names no class", "python:package.module:Class"]),
        ("python:no_such_module:Store", ["No module named 'no_such_module'", "PYTHONPATH"]),
        ("python:json", ["'json' is no class", "package.module:Class"]),
        ("python:json:absent", ["python:json:absent", "AttributeError"]),
        ("python:json:__version__", ["TypeError", "not a class"]),
        ("python:json:JSONDecoder", ["is no connector", "get_into", "submit_batch_get"]),
        ("python:json:JSONDecoder?colour=red", ["constructor raised TypeError", "colour"]),
        ("python:json:JSONDecoder?factory=x", ["factory", "given too"]),
        ("fault:?inner=python:json:JSONDecoder", ["JSONDecoder is no connector"]),
    ],
)
def test_a_spec_that_cannot_be_opened_says_why(spec, texts):
    with pytest.raises(larder.OpenError) as raised:
        larder.open(spec)
    for text in texts:
        assert text in str(raised.value)


def test_an_object_that_lacks_a_method_is_refused():
    for made, text in [
        (type("Half", (), {"get_into": len})(), "no method set"),
        (type("Half", (), {"submit_batch_get": len})(), "no method submit_batch_set"),
        (None, "NoneType is no connector"),
    ]:
        connectors.register("half", lambda made=made: made)
        try:
            with pytest.raises(larder.OpenError, match=text):
                larder.open("half:")
        finally:
            connectors.unregister("half")


def test_the_command_names_the_remedy():
    command = os.path.join(os.path.dirname(sys.executable), "larder")
    ended = subprocess.run(
        [command, "bench", "python:mystore:Store?path=/data"], capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert "larder.open(" in ended.stderr and "needs a Python interpreter" in ended.stderr



def test_the_example_package_passes_its_own_tests(tmp_path):
    """As an installation has it: the sources, and the entry points of its pyproject.toml."""
    source = pathlib.Path(__file__).parents[2] / "examples" / "python_connector"
    shutil.copytree(source / "larder_sqlite", tmp_path / "larder_sqlite")
    project = (source / "pyproject.toml").read_text()
    section = project.split('[project.entry-points."larder.connectors"]\n')[1].split("\n\n")[0]
    lines = [line.split(" = ") for line in section.split("\n")]
    entries = [(name, value.strip('"')) for name, value in lines]
    assert entries == [("sqlite", "larder_sqlite:SqliteConnector")]
    distribution(tmp_path, "larder_sqlite", entries)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
        + [str(source / "tests"), "--rootdir", str(source)],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0 and "6 passed" in ended.stdout, ended.stdout + ended.stderr
