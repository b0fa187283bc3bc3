"""`larder server` from the Python package: the same command, and connectors in Python behind it."""

import json
import signal

import pytest
from server_support import (
    CHUNKS,
    HERE,
    Server,
    Worker,
    path_of,
    run,
    tokens_of,
    wait_for,
)

KINDS = pytest.mark.parametrize("kind", ["command", "python"])


@pytest.mark.parametrize(
    "arguments",
    [
        "server --help",
        "help server",
        "server --markdown",
        "server --check --l1-size-gb 1 --l2-adapter redis://u:geheim@h:1/ --max-workers 4",
        "server --check --port 0 --l1-size-gb 8MiB",
        "server --check --json",
        "server --check --l1-size-gb 1 --eviction-polcy LRU",
        "server --l1-size-gb 8MiB --max-workers 4 --host 256.256.256.256 --no-http",
        "server --l1-size-gb 1 word",
    ],
)
def test_it_is_the_same_command(arguments):
    command, python = (run(kind, *arguments.split()) for kind in ("command", "python"))
    assert python.returncode == command.returncode
    assert without_name(python.stdout) == without_name(command.stdout)
    assert without_times(python.stderr) == without_times(command.stderr)


def without_name(text):
    return text.replace("python -m larder", "larder")


def without_times(log):
    return [line[line.find(" [") :] if line[:2] == "20" else line for line in log.splitlines()]


def test_other_commands_are_those_of_the_program():
    ended = run("python", "bench", "memory:")
    assert ended.returncode == 2
    assert "there are: server; the command larder has the others" in ended.stderr
    assert run("python", "--version").stdout.startswith("larder 0.")
    assert "Usage: python -m larder [OPTIONS]" in run("python", "--help").stdout
    assert run("python").returncode == 2


@KINDS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_it_with_0(kind, number, tmp_path):
    with Server(kind, tmp_path, "--l2-adapter", "memory:") as server:
        assert server.address["l2"] == ["memory:"]
        assert server.pool.exists()
        with Worker(server) as worker:
            assert worker.store(tokens_of(1)) == CHUNKS
        last, code = server.end(number)
    assert code == 0, server.log()
    assert last == {"ok": True, "event": "ended", "objects_lost": 0, "bytes_lost": 0}
    assert not server.pool.exists()
    assert "Traceback" not in server.log() and "interrupted" not in server.log()


@KINDS
def test_a_second_signal_ends_it_at_once(kind, tmp_path):
    never = "fault:?inner=memory:&stall_rate=1&stall=1h&pattern=set:*"
    with Server(kind, tmp_path, "--l2-adapter", never, "--drain-seconds", 3600) as server:
        with Worker(server) as worker:
            worker.store(tokens_of(1))

        def has_ended():
            server.process.send_signal(signal.SIGTERM)
            return server.process.poll() is not None

        wait_for(has_ended, "the end")
        assert server.process.returncode == -signal.SIGTERM
        assert server.process.stdout.read() == ""
        wait_for(lambda: not server.pool.exists(), "the end of the pool")


def test_kill_takes_the_pool_along(tmp_path):
    with Server("python", tmp_path) as server:
        server.process.kill()
        server.process.wait()
        wait_for(lambda: not server.pool.exists(), "the end of the pool")


def plugin(kind, name, **parameters):
    return json.dumps(
        {
            "type": kind,
            "module_path": "server_connectors",
            "class_name": name,
            "adapter_params": parameters,
        }
    )


@pytest.mark.parametrize(
    "adapter",
    [
        lambda folder: plugin(
            "plugin", "Files", directory=folder, extra={"nested": [1, 2.5, None]}
        ),
        lambda folder: plugin("native_plugin", "Files", directory=folder),
        lambda folder: plugin("native_plugin", "NativeFiles", directory=folder),
        lambda folder: f"python:server_connectors:Files?directory={folder}",
        lambda folder: f"fault:?inner=python:server_connectors:Files%3Fdirectory%3D{folder}",
    ],
    ids=["plugin", "native_plugin", "native", "url", "nested"],
)
def test_a_connector_in_python_keeps_what_the_next_server_serves(adapter, tmp_path):
    folder = tmp_path / "values"
    options = ("--l2-adapter", adapter(str(folder)))
    with Server("python", tmp_path, *options) as server, Worker(server) as worker:
        assert worker.load(tokens_of(1)) == 0
        assert worker.store(tokens_of(1)) == CHUNKS
        last, code = server.end(signal.SIGTERM)
    assert (last["objects_lost"], code) == (0, 0), server.log()
    assert len(list(folder.iterdir())) == CHUNKS
    with Server("python", tmp_path, *options) as server, Worker(server) as worker:
        assert worker.load(tokens_of(1)) == CHUNKS
        assert worker.load(tokens_of(2)) == 0
        assert server.end(signal.SIGTERM)[1] == 0
    assert "Traceback" not in server.log()


def test_the_name_that_a_package_gives_a_connector_is_one_of_the_servers(tmp_path):
    (tmp_path / "larder_connectors").mkdir()
    (tmp_path / "larder_connectors" / "mine.py").write_text(
        "from server_connectors import Files\n"
        "def Connector(location): return Files(location)\n"
    )
    ended = run(
        *("python", "server", "--check", "--l1-size-gb", "1", "--l2-adapter", "mine:/data?load=no"),
        PYTHONPATH=path_of(f"{tmp_path}:{HERE}"),
    )
    assert ended.returncode == 0, ended.stderr
    adapters = json.loads(ended.stdout)["storage_manager"]["l2_adapter_config"]["adapters"]
    assert (adapters[0]["type"], adapters[0]["load"]) == ("python", False)


@pytest.mark.parametrize(
    "adapter, texts",
    [
        (plugin("plugin", "LmcacheAdapter"), ["L2AdapterInterface", "PythonConnector"]),
        (plugin("native_plugin", "LmcacheAdapter"), ["L2AdapterInterface", "PythonConnector"]),
        (plugin("plugin", "Nobody"), ["server_connectors:Nobody", "has no attribute 'Nobody'"]),
        (plugin("plugin", "Files"), ["its constructor raised TypeError", "'directory'"]),
        (plugin("plugin", "pathlib.Path"), ["is no connector", "get_into"]),
        ("python:no_such_module:Class", ["No module named", "PYTHONPATH"]),
        ("nobody:/data", ["unknown connector type 'nobody'"]),
    ],
)
def test_what_is_no_connector_stops_the_start(adapter, texts):
    ended = run("python", "server", "--l1-size-gb", "8MiB", "--port", 0, "--l2-adapter", adapter)
    assert ended.returncode in (1, 2) and ended.stdout == ""
    assert all(text in ended.stderr for text in texts), ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_environment_loads_no_code():
    ended = run(
        *("python", "server", "--check", "--l1-size-gb", "1"),
        LARDER_L2_ADAPTER="python:server_connectors:Files?directory=/tmp",
    )
    assert ended.returncode == 2
    assert "on the command line and in the configuration file only" in ended.stderr


@pytest.mark.parametrize("adapter", ["python:m:C", plugin("native_plugin", "Files", directory="/")])
def test_the_command_without_python_says_what_to_start(adapter):
    ended = run("command", "server", "--check", "--l1-size-gb", "1", "--l2-adapter", adapter)
    assert ended.returncode == 2
    assert "python -m larder server" in ended.stderr


def test_a_method_that_never_returns_does_not_keep_the_server(tmp_path):
    folder = tmp_path / "values"
    folder.mkdir()
    (folder / "hold").touch()
    adapter = plugin("plugin", "Files", directory=str(folder))
    options = ("--l2-adapter", adapter, "--drain-seconds", "0.1")
    with Server("python", tmp_path, *options) as server:
        with Worker(server) as worker:
            worker.store(tokens_of(1))
        last, code = server.end(signal.SIGTERM)
    assert (last["objects_lost"], code) == (CHUNKS, 0), server.log()
    assert "did not stop" in server.log()
    wait_for(lambda: not server.pool.exists(), "the end of the pool")
