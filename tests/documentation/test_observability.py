"""The dashboard and the alerts of examples/observability ask for what the server has."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT

LARDER = Path(sys.executable).parent / "larder"
EXAMPLES = ROOT / "examples/observability"

# Made by Prometheus itself, for everything that it reads.
OF_PROMETHEUS = {"up": {"job", "instance"}}
OF_EVERY_TARGET = {"job", "instance"}
OF_CONNECTORS = {"type", "where"}
# Of PromQL, in the place of a metric.
WORDS = {"and", "by", "ignoring", "group_left", "histogram_quantile", "increase", "rate", "sum"}
WORDS |= {"max", "topk", "label_values"}


def metrics():
    """The labels of each metric, by its name."""
    found = dict(OF_PROMETHEUS)
    for command in (["server", "--metrics-markdown"], ["stats", "--list", "--markdown"]):
        page = subprocess.run([LARDER, *command], capture_output=True, text=True, check=True).stdout
        connectors = OF_CONNECTORS if command[0] == "stats" else set()
        for name, labels, kind in re.findall(
            r"^\| `((?:larder|lmcache_mp)_\w+)(?:\{(.*?)\})?` \| (\w+) \|", page, re.MULTILINE
        ):
            names = set(filter(None, re.split(r", *", labels))) | connectors | OF_EVERY_TARGET
            found[name] = names
            if kind == "histogram":
                found[f"{name}_sum"] = found[f"{name}_count"] = names
                found[f"{name}_bucket"] = names | {"le"}
    return found


def expressions_of_dashboard():
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["query"]["query"]


def expressions_of_alerts():
    """Of the YAML: what stands behind `expr:`, on its line or indented below it."""
    text = (EXAMPLES / "alerts.yml").read_text("utf-8")
    for inline, block in re.findall(r"^ +expr: (?:>-\n((?:^ {10}.*\n)+)|(.*))", text, re.MULTILINE):
        yield inline or block


EXPRESSIONS = [*expressions_of_dashboard(), *expressions_of_alerts()]


def names_in(expression):
    """(metric, labels of its selector) for each that is read."""
    bare = re.sub(r"\b(by|ignoring|on|group_left|group_right) ?\([^)]*\)", r"\1 ", expression)
    for name, selector in re.findall(r"([a-zA-Z_]\w*)(\{[^}]*\})?(?![\w(])", strings_out(bare)):
        if name not in WORDS:
            yield name, set(re.findall(r"(\w+)(?==|!)", selector))


def strings_out(expression):
    without_ranges = re.sub(r"\[[^\]]*\]", "", re.sub(r'"[^"]*"', '""', expression))
    return re.sub(r"label_values\(([^,]*),[^)]*\)", r"\1", without_ranges)


@pytest.fixture(scope="module")
def known():
    return metrics()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_queried_is_one_of_the_servers_metrics(expression, known):
    names = list(names_in(expression))
    assert names, "it reads nothing"
    for name, labels in names:
        assert name in known, name
        assert labels <= known[name], f"{name} has no label {labels - known[name]}"
    labels_of_any = set().union(*(known[name] for name, _ in names))
    for group in re.findall(r"\b(?:by|ignoring) ?\(([^)]*)\)", expression):
        assert set(re.split(r", *", group)) <= labels_of_any, group


def test_there_is_an_alert_for_each_trouble():
    text = (EXAMPLES / "alerts.yml").read_text("utf-8")
    alerts = re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)
    assert alerts == [
        "LarderServerDown",
        "LarderEngineStalled",
        "LarderTierDown",
        "LarderStoresFailing",
        "LarderStoresTooSlow",
        "LarderHitRateCollapsed",
        "LarderL1FullOfLocks",
        "LarderRepliesDropped",
    ]
    assert len(list(expressions_of_alerts())) == len(alerts)
    for part in ["summary: ", "description: ", "severity: "]:
        assert text.count(part) == len(alerts), part


def test_expressions_are_taken_apart_as_they_are_meant():
    assert list(names_in('sum by (tier) (rate(a_total{reason="x", b!="y"}[5m])) > 0 and b_c')) == [
        ("a_total", {"reason", "b"}),
        ("b_c", set()),
    ]
    assert list(names_in("label_values(a_info, instance)")) == [("a_info", set())]
