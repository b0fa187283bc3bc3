"""`larder.sglang` under SGLang 0.5.23's own storage factory, HiCacheController and host pools, on CPUs,
and its entry point under SGLang's own plugins and arguments."""

import dataclasses
import inspect
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
import torch
from documented_setups import commands_of, option_of, replaced
from sglang_engine import LAYOUTS, PAGE, Engine, hashes_of, prompt

import larder
import larder.connectors

PAGES = 150  # More than one batch of SGLang's, which has 128.

INTERFACES = pytest.mark.parametrize("v1", [1, 0], ids=["v1", "pages"])
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
KINDS = pytest.mark.parametrize("kind", ["mha", "mla"])


@pytest.fixture
def engine():
    """Makes engines, and closes them at the end."""
    made = []

    def make(layout, url, *, v1=1, extra=None, **parameters):
        config = {
            "backend_name": "larder",
            "module_path": "larder.sglang",
            "class_name": "LarderHiCache",
            "interface_v1": v1,
            "url": url,
            **(extra or {}),
        }
        made.append(Engine(layout, config, **parameters))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def log(tmp_path):
    return f"log:{tmp_path}/kv?capacity=256MiB&max_value=1MiB&segment=8MiB&min_free=0"


@INTERFACES
@EVERY_LAYOUT
@KINDS
def test_a_restart_is_warm_and_the_bytes_are_the_same(engine, log, kind, layout, v1):
    tokens = prompt(PAGES)
    first = engine(layout, log, v1=v1, kind=kind)
    assert first.fetch(tokens).pages_found == 0
    indices, is_stored = first.save(tokens)
    assert is_stored
    expected = first.pages(indices).clone()
    assert first.backend.client.metrics()["larder_keys"] == PAGES, "one key for each page"
    first.close()

    second = engine(layout, log, v1=v1, kind=kind)
    fetched = second.fetch(tokens)
    assert (fetched.pages_found, fetched.pages_loaded) == (PAGES, PAGES)
    assert torch.equal(second.pages(fetched.indices), expected)
    assert second.fetch(prompt(PAGES, seed=1)).pages_found == 0, "another prompt"
    branch = tokens[: 40 * PAGE] + prompt(10, seed=2)
    assert second.fetch(branch).pages_loaded == 40
    assert second.backend.failures == 0


def test_the_documented_configuration(tmp_path):
    """The one of docs/sglang.md, with a store for a small machine."""
    (words,) = commands_of("sglang.md", "^sglang serve .*--hicache-storage-backend-extra-config")
    ours = {"/data/kv?capacity=500GiB": f"{tmp_path}/kv?capacity=512MiB&max_value=1MiB"}
    extra = replaced(option_of(words, "--hicache-storage-backend-extra-config"), ours)
    tokens = prompt(20)
    for loaded in (0, 20):
        one = Engine("page_first", extra)
        assert one.fetch(tokens).pages_loaded == loaded
        assert one.save(tokens)[1]
        one.close()


@EVERY_LAYOUT
def test_what_is_stored_is_not_written_again(engine, log, layout):
    tokens = prompt(20)
    one = engine(layout, log)
    indices, _ = one.save(tokens)
    counters = one.backend.client.report().counters
    assert one.store(tokens, indices)
    after = one.backend.client.report().counters
    assert after["bytes_stored_total"] == counters["bytes_stored_total"]


@pytest.mark.parametrize(
    "change", [{"model": "another"}, {"layout": "layer_first"}, {"extra": {"revision": "b"}}]
)
def test_another_model_layout_or_revision_finds_nothing(engine, tmp_path, change):
    files, tokens = f"fs:{tmp_path}/kv?min_free=0", prompt(20)
    given = {"layout": "page_first", "url": files, "extra": {"revision": "a"}}
    assert engine(**given).save(tokens)[1]
    assert engine(**given).fetch(tokens).pages_loaded == 20
    assert engine(**{**given, **change}).fetch(tokens).pages_found == 0


@INTERFACES
@EVERY_LAYOUT
def test_ranks_keep_their_own_pages(engine, tmp_path, layout, v1):
    url = f"log:{tmp_path}/{{rank}}?capacity=256MiB&max_value=1MiB&segment=8MiB&min_free=0"
    tokens = prompt(20)

    def all_ranks():
        return [engine(layout, url, v1=v1, rank=rank, ranks=2) for rank in range(2)]

    first, kept = all_ranks(), []
    for rank, one in enumerate(first):
        indices, is_stored = one.save(tokens, seed=rank)
        assert is_stored
        kept.append(one.pages(indices).clone())
    assert not torch.equal(*kept)
    for one in first:
        one.close()
    for one, expected in zip(all_ranks(), kept, strict=True):
        fetched = one.fetch(tokens)
        assert fetched.pages_loaded == 20
        assert torch.equal(one.pages(fetched.indices), expected)


def test_ranks_of_an_mla_model_share_what_the_first_stores(engine, tmp_path):
    url, tokens = f"fs:{tmp_path}/kv?min_free=0", prompt(20)
    ranks = [engine("page_first", url, kind="mla", rank=rank, ranks=2) for rank in range(2)]
    indices, is_stored = ranks[0].save(tokens)
    assert is_stored
    _, is_stored = ranks[1].save(tokens, seed=1)
    assert not is_stored, "SGLang itself skips it"
    fetched = ranks[1].fetch(tokens, "of the other rank")
    assert fetched.pages_loaded == 20
    assert torch.equal(ranks[1].pages(fetched.indices), ranks[0].pages(indices))
    alone = engine("page_first", url, kind="mla")
    assert alone.fetch(tokens).pages_loaded == 20, "without ranks, too"


@pytest.mark.parametrize("v1", [1, 0], ids=["v1", "pages"])
def test_a_file_that_was_damaged_is_a_miss_and_stored_again(engine, log, tmp_path, v1):
    tokens = prompt(20)
    first = engine("page_first", log, v1=v1)
    indices, _ = first.save(tokens)
    expected = first.pages(indices).clone()
    first.close()
    needle, found = expected[7].numpy().tobytes()[256:320], 0
    for path in (tmp_path / "kv").rglob("*"):
        content = bytearray(path.read_bytes()) if path.is_file() else b""
        if (place := content.find(needle)) >= 0:
            content[place] ^= 1
            path.write_bytes(content)
            found += 1
    assert found == 1

    second = engine("page_first", log, v1=v1)
    fetched = second.fetch(tokens)
    assert (fetched.pages_found, fetched.pages_loaded) == (20, 7)
    assert torch.equal(second.pages(fetched.indices)[:7], expected[:7])
    assert second.backend.failures == 1
    assert second.fetch(tokens).pages_found == 7, "a miss, and not found for ever"
    assert second.save(tokens)[1]
    fetched = second.fetch(tokens)
    assert fetched.pages_loaded == 20
    assert torch.equal(second.pages(fetched.indices), expected)


def test_pages_that_were_deleted_and_a_clear(engine, tmp_path):
    url, tokens = f"fs:{tmp_path}/kv?min_free=0", prompt(20)
    one, other = engine("page_first", url), engine("page_first", url, model="another")
    one.save(tokens)
    other.save(tokens)
    with larder.open(url) as store:
        name = next(key for key, _ in store.scan() if key.endswith(hashes_of(tokens)[5].encode()))
        assert store.delete([name]) == [True]
    assert sorted([one.fetch(tokens).pages_loaded, other.fetch(tokens).pages_loaded]) == [5, 20]
    one.backend.clear()
    assert (one.fetch(tokens).pages_found > 0, other.fetch(tokens).pages_found > 0) == (False, True)
    assert one.save(tokens)[1]
    assert one.fetch(tokens).pages_loaded == 20


@INTERFACES
def test_a_store_that_stalls_costs_its_deadlines_and_no_more(engine, v1):
    """The stalls are an hour, which the test's own waits do not last."""
    times = {"lookup_timeout": 0.1, "load_timeout": 0.1, "store_timeout": 0.1}
    url = "fault:?inner=memory:&stall=1h&stall_rate=1&pattern=get:*;set:2-9"
    one, tokens = engine("page_first", url, v1=v1, extra=times), prompt(20)
    assert one.save(tokens)[1]
    fetched = one.fetch(tokens)
    assert (fetched.pages_found, fetched.pages_loaded) == (20, 0)
    assert not one.save(prompt(20, seed=1))[1]
    assert "deadline" in one.backend.last_failure or "time" in one.backend.last_failure


def test_sglangs_own_faults_are_survived(engine, log, monkeypatch):
    monkeypatch.setenv("SGLANG_TEST_HICACHE_BACKEND_RANDOM_FAILURE", "0.3")
    one, tokens = engine("page_first", log), prompt(20)
    indices, _ = one.save(tokens)
    expected, loaded = one.pages(indices).clone(), set()
    for turn in range(20):
        one.store(tokens, indices)
        fetched = one.fetch(tokens, f"request {turn}")
        loaded.add(fetched.pages_loaded)
        if fetched.pages_loaded:
            assert torch.equal(one.pages(fetched.indices), expected)
        one.host.free(fetched.indices)
    assert loaded <= {0, 20}


@pytest.mark.parametrize("url", ["nothing:/data/kv", "log:/proc/kv?capacity=1GiB", "memory:?x=1"])
def test_a_store_that_cannot_be_opened_is_no_end_of_the_engine(engine, url, caplog):
    one, tokens = engine("page_first", url), prompt(20)
    assert not one.save(tokens)[1]
    assert one.fetch(tokens).pages_found == 0
    said = [record for record in caplog.records if record.name == "larder.sglang"]
    assert len(said) == 1 and "SGLang runs as without larder" in said[0].getMessage()


def test_statistics_go_to_sglang(engine, log):
    one, tokens = engine("page_first", log), prompt(PAGES)
    assert one.backend.get_stats() is None, "nobody asked for them"
    one.controller.storage_config.enable_storage_metrics = True
    indices, _ = one.save(tokens)
    one.host.free(indices)
    one.fetch(tokens)
    stats = one.backend.get_stats()
    assert (stats.backup_pgs, stats.prefetch_pgs) == ([128, 22], [128, 22])


def test_a_request_s_hints_do_not_reach_a_storage_backend():
    """When a release hands them on, this fails, and larder.sglang has hints to carry out."""
    from sglang.srt.managers import cache_controller, kv_hints
    from sglang.srt.mem_cache import hicache_storage

    assert kv_hints.KvHintsEnvelope
    fields = dataclasses.fields(hicache_storage.HiCacheStorageExtraInfo)
    assert [field.name for field in fields] == ["prefix_keys", "extra_info"]
    for module in (cache_controller, hicache_storage):
        assert "kv_hints" not in inspect.getsource(module)


# --- The entry point ------------------------------------------------------------------------------

NAMES = (
    "enable_hierarchical_cache",
    "hicache_storage_backend",
    "hicache_storage_backend_extra_config",
)

# One process for all, because SGLang takes long to be imported: for each case the arguments as SGLang
# resolves them, and what larder logged.
RESOLVES = """
    import io, json, logging, os, sys
    import sglang_shim
    from sglang.srt.plugins import load_plugins

    load_plugins()
    import sglang.srt.arg_groups.hicache_hook as hooks
    from sglang.srt.arg_groups.overrides import resolution_result
    from sglang.srt.server_args import prepare_server_args

    def refuse(arguments):
        if resolution_result(arguments, "enable_hierarchical_cache"):
            raise ValueError("no HiCache today")

    resolve_ratio = hooks.handle_hicache_ratio_default
    logger, results = logging.getLogger("larder.sglang"), {}
    for name, (url, arguments, is_refused) in json.load(sys.stdin).items():
        os.environ.pop("LARDER")
        if url is not None:
            os.environ["LARDER"] = url
        hooks.handle_hicache_ratio_default = refuse if is_refused else resolve_ratio
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        given = prepare_server_args(["--model-path", "dummy", *arguments])
        given.resolve_once()
        given.resolve_once()
        logger.removeHandler(handler)
        resolved = [resolution_result(given, name) for name in NAMES]
        results[name] = [resolved, stream.getvalue().splitlines()]
        os.environ.setdefault("LARDER", "")
    print(json.dumps(results))
"""

EXPLICIT = ["--enable-hierarchical-cache", "--hicache-storage-backend", "file"]
WRONG = ["nothing:/data", "log:/proc/kv?capacity=1GiB", "log:relative"]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory):
    """By name what became of the arguments, and the lines of the log."""
    log = f"log:{tmp_path_factory.mktemp('plugin')}/kv?capacity=512MiB&max_value=1MiB&min_free=0"
    cases = {
        "filled": (log, [], False),
        "without": (None, [], False),
        "explicit": (log, EXPLICIT, False),
        "excluded": (log, ["--disable-radix-cache"], False),
        "refused": (log, [], True),
        "ranks": (log, ["--tp-size", "2"], False),
    }
    cases |= {url: (url, [], False) for url in WRONG}
    ran = subprocess.run(
        [sys.executable, "-c", f"NAMES = {NAMES}\n" + textwrap.dedent(RESOLVES)],
        input=json.dumps(cases),
        env=os.environ | {"PYTHONWARNINGS": "ignore", "LARDER": log},
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {"url": log} | json.loads(ran.stdout.splitlines()[-1])


def test_the_environment_fills_the_configuration(resolved, monkeypatch):
    (is_on, backend, extra), said = resolved["filled"]
    assert (is_on, backend) == (True, "dynamic")
    assert "kv?capacity" not in extra, "SGLang logs its arguments, and a URL may hold a password"
    assert len(said) == 1
    # What SGLang makes of it.
    monkeypatch.setenv("LARDER", resolved["url"])
    one = Engine("page_first", json.loads(extra))
    assert one.save(prompt(4))[1] and one.fetch(prompt(4)).pages_loaded == 4
    one.close()


def test_without_the_variable_nothing_changes(resolved):
    assert resolved["without"] == [[False, None, None], []]


def test_an_explicit_configuration_wins(resolved):
    given, said = resolved["explicit"]
    assert given == [True, "file", None]
    assert len(said) == 1 and "wins" in said[0]


@pytest.mark.parametrize(
    ("case", "says"),
    [
        *((url, "") for url in WRONG),
        ("excluded", "disable_radix_cache=True"),
        ("refused", "no HiCache today"),
        ("ranks", "log:/data/kv/{rank}"),
    ],
)
def test_whatever_is_wrong_the_engine_starts_without_and_it_is_said_once(resolved, case, says):
    given, said = resolved[case]
    assert given == [False, None, None]
    assert len(said) == 1 and says in said[0] and "SGLang runs as without larder" in said[0]
