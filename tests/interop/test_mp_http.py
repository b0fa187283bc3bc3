"""The HTTP of a running `larder server` before anyone has talked to it: every metric is there, and
nothing that LMCache's server gives away or lets anyone do (F19, F20)."""

import http.client
import pathlib
import re
import urllib.request

import pytest
from mp_server import REPOSITORY, MpServer, free_port

LISTED = pathlib.Path(REPOSITORY) / "docs" / "server_metrics.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("http") / "server.log"
    port = free_port()
    options = ("--metrics-port", str(port), "--l2-adapter", "memory:?capacity=64MiB")
    with MpServer("larder", log, options=options) as server:
        server.metrics_port = port
        yield server


def ask(server, method, path, headers=(), body=None, port=None):
    connection = http.client.HTTPConnection("127.0.0.1", port or server.http_port, timeout=10)
    connection.request(method, path, body=body, headers=dict(headers))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_every_documented_metric_is_there_before_any_traffic(server):
    row = re.compile(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", re.MULTILINE)
    names = set(row.findall(LISTED.read_text()))
    assert len(names) > 60
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as answer:
        text = answer.read().decode()
    shown = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert names - shown == set()
    samples = re.findall(r"^(lmcache_mp_\S*?_total)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
    assert len(samples) > 20
    idle = {"lmcache_mp_l1_eviction_loop_ticks_total"}
    assert {name for name, value in samples if float(value) != 0} - idle == set()


def test_the_port_for_metrics_has_nothing_else(server):
    for path in ("/status", "/config", "/cache/objects", "/healthcheck"):
        assert ask(server, "GET", path, port=server.metrics_port)[0] == 404
    assert ask(server, "POST", "/cache/clear", body="{}", port=server.metrics_port)[0] == 404


@pytest.mark.parametrize("path", ["/run_script", "/env", "/threads", "/periodic-threads"])
def test_nothing_runs_code_or_shows_the_environment(server, path):
    for method in ("GET", "POST"):
        status, text = ask(server, method, path, body="" if method == "GET" else "print(1)")
        assert status == 404, text
        assert "PATH=" not in text


def test_no_change_without_a_token_and_none_from_another_site(server):
    status, text = ask(server, "POST", "/cache/clear", body="{}")
    assert status == 401 and "--admin-token-file" in text
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        for method, path in (("POST", "/cache/clear"), ("GET", "/status"), ("GET", "/config")):
            assert ask(server, method, path, headers)[0] == 403, (headers, path)
