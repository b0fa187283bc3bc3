"""The entry point of `larder.sglang`: its effect on SGLang's arguments, and when it has none."""

import importlib.metadata
import json
import logging

import pytest
from sglang_support import install

from larder.sglang import _plugin

URL = "memory:?capacity=8MiB"


class Arguments:
    """SGLang's, as far as the entry point sees them."""

    def __init__(self, **given):
        self.enable_hierarchical_cache = False
        self.hicache_storage_backend = None
        self.hicache_storage_backend_extra_config = None
        self.disable_radix_cache = False
        self.__dict__.update(given)


FIELDS = (
    "enable_hierarchical_cache",
    "hicache_storage_backend",
    "hicache_storage_backend_extra_config",
)


def fields(arguments):
    return [getattr(arguments, name) for name in FIELDS]


def resolved(arguments, refuses=lambda arguments: None):
    """SGLang's resolution, as often as it is called."""
    seen = []

    def resolve(given):
        seen.append(fields(given))
        given.resolution_begun = True
        refuses(given)
        return "resolved"

    assert _plugin.fill(resolve, arguments) == "resolved"
    return seen


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("LARDER", URL)


def said(caplog, level=logging.ERROR):
    return [one.getMessage() for one in caplog.records if one.levelno >= level]


def test_it_is_an_entry_point_of_the_package():
    found = importlib.metadata.entry_points(group="sglang.srt.plugins")
    assert [one.load() for one in found if one.name == "larder"] == [_plugin.register]


def test_it_hooks_the_resolution_where_the_variable_is_set(monkeypatch):
    registry = install(monkeypatch)["sglang.srt.plugins.hook_registry"].HookRegistry
    _plugin.register()
    target = "sglang.srt.server_args.ServerArgs.resolve_once"
    assert registry.hooks == [(target, _plugin.fill, "around")]
    monkeypatch.setenv("LARDER", "")
    _plugin.register()
    monkeypatch.delenv("LARDER")
    _plugin.register()
    assert len(registry.hooks) == 1


def test_another_sglang_is_told_and_no_error(monkeypatch, caplog):
    import sys

    monkeypatch.setitem(sys.modules, "sglang.srt.plugins.hook_registry", None)
    _plugin.register()
    assert "SGLang runs as without larder" in said(caplog)[0]


def test_it_fills_what_is_not_given():
    arguments = Arguments()
    ((is_on, backend, extra),) = resolved(arguments)
    assert (is_on, backend) == (True, "dynamic")
    assert json.loads(extra)["class_name"] == "LarderHiCache" and URL not in extra
    assert fields(arguments) == [is_on, backend, extra]


def test_a_host_cache_that_is_given_gets_the_storage():
    assert resolved(Arguments(enable_hierarchical_cache=True))[0][:2] == [True, "dynamic"]


@pytest.mark.parametrize(
    "given",
    [{"hicache_storage_backend": "file"}, {"hicache_storage_backend_extra_config": "{}"}],
)
def test_what_is_given_wins(given, caplog):
    arguments = Arguments(**given)
    before = fields(arguments)
    assert resolved(arguments) == [before]
    assert not said(caplog)


@pytest.mark.parametrize(
    "given",
    [
        {"disable_radix_cache": True},
        {"enable_lmcache": True},
        {"radix_cache_backend": "mine"},
        {"enable_unified_cache_external_linker": True},
        {"disaggregation_mode": "decode"},
        {"dcp_size": 2},
    ],
)
def test_what_excludes_hicache_wins(given, caplog):
    assert resolved(Arguments(**given)) == [[False, None, None]]
    assert len(said(caplog)) == 1 and next(iter(given)) in said(caplog)[0]


def test_the_address_of_the_metrics_stays_free_for_the_ranks(monkeypatch, caplog):
    monkeypatch.setenv("LARDER_METRICS", "no address, which the trial must not mind")
    assert resolved(Arguments())[0][0] is True
    assert not said(caplog)


@pytest.mark.parametrize("url", ["nothing:/data", "memory:?what=1", "log:/proc/kv?capacity=1GiB"])
def test_a_wrong_variable_changes_nothing_and_is_said_once(monkeypatch, caplog, url):
    monkeypatch.setenv("LARDER", url)
    assert resolved(Arguments()) == [[False, None, None]]
    assert len(said(caplog)) == 1 and "SGLang runs as without larder" in said(caplog)[0]


def test_a_log_for_several_ranks_changes_nothing_unless_it_names_them(
    monkeypatch, caplog, tmp_path
):
    for directory, is_on in (("kv", False), ("{rank}", True)):
        monkeypatch.setenv("LARDER", f"log:{tmp_path}/{directory}?capacity=512MiB&max_value=1MiB")
        assert resolved(Arguments(tp_size=2))[0][0] is is_on
    assert len(said(caplog)) == 1 and "log:/data/kv/{rank}" in said(caplog)[0]


def test_what_sglang_refuses_is_resolved_again_as_without(caplog):
    def refuses(arguments):
        if arguments.enable_hierarchical_cache:
            arguments.resolution_failed = True
            raise ValueError("not with this model")

    arguments = Arguments()
    seen = resolved(arguments, refuses)
    assert [one[0] for one in seen] == [True, False]
    assert fields(arguments) == [False, None, None]
    assert not hasattr(arguments, "resolution_failed")
    assert len(said(caplog)) == 1 and "not with this model" in said(caplog)[0]


def test_arguments_that_are_wrong_anyhow_are_sglangs_to_tell(caplog):
    def refuses(arguments):
        raise ValueError("no such model")

    with pytest.raises(ValueError, match="no such model"):
        resolved(Arguments(), refuses)
    assert not said(caplog)


def test_arguments_that_are_resolved_stay_as_they_are():
    arguments = Arguments(_resolution_finished=True)
    assert resolved(arguments) == [[False, None, None]]
