"""The page of `larder server` in a browser: what it says in each scene is what was done to the
server, at 400 and at 1,400 pixels, in light and dark. Screenshots lie in the tests' directories."""

import contextlib
import json
import re
import urllib.request

import pytest
from mp_cache import CHUNKS, Cache
from mp_player import CHUNK
from mp_server import MpServer, free_port, l2_option, wait_for
from mp_wire import RawClient, registration
from page_browser import Shown, open_browser
from redis_server import RedisServer

MEMORY = {"type": "memory", "capacity": "256MiB"}
PROMPT = CHUNKS * CHUNK  # Tokens.
LOOKS = [(1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@contextlib.contextmanager
def server_of(tmp_path, *adapters, **options):
    with MpServer("larder", tmp_path / "log", options=l2_option(*adapters), **options) as server:
        yield server


def each_look(browser, server, tmp_path, scene, check, wait=("#live-text", "Live")):
    """Opens it in each look, waits, checks, and keeps a picture of all of it."""
    for width, scheme in LOOKS:
        with Shown(browser, server, width=width, scheme=scheme) as shown:
            shown.wait(*wait)
            shown.wait_polls()
            shown.page.screenshot(path=tmp_path / f"{scene}_{width}_{scheme}.png", full_page=True)
            check(shown)
            shown.check()
            shown.check_keyboard()


def rows_of(shown, selector):
    """The visible texts of a table's cells, by row."""
    rows = shown.page.locator(f"{selector} > tr").all()
    return [
        [cell.inner_text().replace("\u00a0", " ") for cell in row.locator("> th, > td").all()]
        for row in rows
    ]


def test_at_rest_it_says_what_to_do_next(browser, tmp_path):
    with server_of(tmp_path) as server:

        def check(shown):
            assert shown.text("#health-pill") == "Healthy"
            assert shown.page.locator("#reasons li").count() == 0
            assert shown.text("#attach-title") == "No engine has connected yet"
            command = shown.text("#attach-command")
            config = json.loads(re.search(r"'(\{.*\})'", command).group(1))
            assert config["kv_connector_extra_config"]["lmcache.mp.port"] == server.port
            assert "--l2-adapter" in shown.text("#no-tiers")
            assert shown.page.locator("#no-workers").is_visible()
            assert shown.page.locator("#no-salts").is_visible()
            for hidden in ("#saved", "#misses", "#tier-table", "#worker-table", "#silence"):
                assert shown.page.locator(hidden).is_hidden(), hidden
            assert "64.0 MiB" in shown.text("#l1-of")

        each_look(browser, server, tmp_path, "rest", check)


def test_a_worker_without_prompts_is_told_from_none(browser, tmp_path):
    with server_of(tmp_path) as server, Shown(browser, server) as shown:
        shown.wait("#attach-title", "No engine has connected yet")
        with contextlib.closing(Cache(server)) as cache:
            shown.wait("#attach-title", "No prompt was looked up yet")
            assert shown.page.locator("#attach-command").is_hidden()
            assert rows_of(shown, "#worker-rows")[0][0] == "7"
            cache.store(1)
            cache.look_up(1)
            shown.wait("#saved", "What it saves")
            assert shown.page.locator("#attach").is_hidden()
        shown.check()


def test_the_command_can_be_copied(browser, tmp_path):
    with server_of(tmp_path) as server, Shown(browser, server) as shown:
        shown.wait("#live-text", "Live")
        shown.page.get_by_role("button", name="Copy the command").click()
        shown.wait("#copied", "Copied.")
        copied = shown.page.evaluate("navigator.clipboard.readText()")
        assert copied == server.status()["larder"]["attach_command"]
        shown.check()


def test_its_numbers_are_what_was_driven(browser, tmp_path):
    files = {"type": "fs", "base_path": str(tmp_path / "files")}
    with server_of(tmp_path, files, MEMORY) as server, contextlib.closing(Cache(server)) as cache:
        for number in range(8):
            cache.store(number)
        for number in range(8):
            assert cache.look_up(number)[0] == CHUNKS
        cache.forget()
        for number in range(6):
            assert cache.look_up(number)[0] == CHUNKS
        for number in range(100, 106):
            assert cache.look_up(number, salt="tenant-a")[0] == 0

        def check(shown):
            # 20 prompts: 8 from L1, 6 from L2, 6 that nobody has stored.
            assert shown.text("#share") == "70.0 %"
            assert shown.text("#not-computed") == "1.34 k" and 14 * PROMPT == 1344
            for row in rows_of(shown, "#windows"):
                assert row[1:] == ["1.92 k", "40.0 %", "30.0 %", "70.0 %"]
            misses = {row[0]: row[2:] for row in rows_of(shown, "#miss-rows")}
            assert misses.pop("Never stored") == ["576", "576"] and 6 * PROMPT == 576
            assert len(misses) == 6 and all(row == ["0", "0"] for row in misses.values())
            tiers = rows_of(shown, "#tiers")
            assert [row[0].split("\n")[0] for row in tiers] == ["fs", "memory"]
            for row in tiers:
                assert "Healthy" in row[1]
                assert row[5].strip().endswith("none"), row
            for row in (tiers[0][3], tiers[0][4], tiers[1][4]):
                assert re.search(r"p50 [\d.]+ (µs|ms|s) · p99 [\d.]+ (µs|ms|s)", row), row
            assert "none yet" in tiers[1][3], "fs was asked first, and has all"
            worker = rows_of(shown, "#worker-rows")[0]
            assert [worker[i] for i in (0, 2, 3)] == ["7", "0 of 1", "engine-driven"]
            assert worker[4] == "1.34 k tokens"
            salts = rows_of(shown, "#salt-rows")
            assert [row[0] for row in salts] == ["no salt", "tenant-a"]
            assert [row[2:4] for row in salts] == [["1.34 k", "100 %"], ["576", "0 %"]]
            used = server.status()["storage_manager"]["l1_manager"]["memory_used_bytes"]
            assert f"{used / 1024:.0f} KiB of 64.0 MiB" in shown.text("#l1-of")
            if shown.page.viewport_size["width"] == 1400:
                for part in ("#health", "#saved", "#misses", "#l1", "#connectors"):
                    assert shown.bottom(part) <= 900, f"{part} is below the first screen"

        each_look(browser, server, tmp_path, "load", check)


def test_a_dead_store_has_its_reason_and_remedy(browser, tmp_path):
    dying = {"type": "fault", "inner": MEMORY, "error_rate": 1, "pattern": "set:*"}
    with RedisServer(tmp_path) as redis:
        tier = f"redis://127.0.0.1:{redis.port}"
        with server_of(tmp_path, tier, dying) as server, contextlib.closing(Cache(server)) as cache:
            redis.stop()
            for number in range(4):
                cache.look_up(number)
                cache.store(number)

            def status():
                return server.status()["larder"]

            wait_for(
                lambda: status()["chunks"]["missed"]["down"] > 0 or cache.look_up(99), "down", 60
            )
            wait_for(lambda: status()["tiers"][0]["health"] == "down", "the tier is down")
            wait_for(lambda: status()["tiers"][1]["stores_failed"] > 0, "stores are given up", 60)

            def check(shown):
                assert shown.text("#health-pill") == "Degraded"
                reasons = shown.page.locator("#reasons li").all_inner_texts()
                assert len(reasons) == 3, reasons
                assert f"127.0.0.1:{redis.port} is down" in reasons[0]
                assert "is it running?" in reasons[0]
                assert "is degraded" in reasons[1]
                assert "could not be stored in L2" in reasons[2], reasons
                assert all(re.search("Mend|Look at", each) for each in reasons), (
                    "each has its remedy"
                )
                tiers = rows_of(shown, "#tiers")
                assert "Down" in tiers[0][1] and "Down" not in tiers[1][1]
                assert re.search(r"\d+ in 1 min", tiers[1][5]), tiers[1]
                if shown.page.viewport_size["width"] == 1400:
                    assert shown.bottom("#connectors") <= 900

            each_look(browser, server, tmp_path, "dead", check, wait=("#health-pill", "Degraded"))
            with Shown(browser, server) as shown:
                shown.wait("#health-pill", "Degraded")
                redis.start()
                wait_for(
                    lambda: cache.look_up(1) and status()["tiers"][0]["health"] == "healthy",
                    "it is used again",
                    60,
                    every=0.2,
                )
                wait_for(
                    lambda: "Healthy" in rows_of(shown, "#tiers")[0][1], "the page says so", 30
                )
                shown.check()


@pytest.mark.parametrize("width", [1400, 400])
def test_a_server_that_stops_and_comes_back(browser, tmp_path, width):
    ports = {"port": free_port(), "http_port": free_port()}
    with contextlib.ExitStack() as stack:
        with server_of(tmp_path, **ports) as server:
            with contextlib.closing(Cache(server)) as cache:
                cache.store(1)
                cache.look_up(1)
            shown = stack.enter_context(Shown(browser, server, width=width))
            shown.wait("#share", "100 %")
            server.kill()
        refused = "Failed to load resource: net::ERR_CONNECTION_REFUSED"
        shown.wait("#live-text", "No answer")
        assert shown.text("#health-pill") == "No answer"
        assert "cannot be reached" in shown.text("#health-text")
        assert re.search(r"What is shown is \d+ s old.", shown.text("#silence-text"))
        assert shown.text("#share") == "100 %", "what is known stays"
        shown.page.screenshot(path=tmp_path / f"silent_{width}.png", full_page=True)
        shown.check(allowed_errors=refused)
        shown.check_keyboard()
        with server_of(tmp_path, **ports):
            shown.page.get_by_role("button", name="Try now").click()
            shown.wait("#live-text", "Live", seconds=40)
            assert shown.text("#health-pill") == "Healthy"
            assert shown.text("#attach-title") == "No engine has connected yet", "it is another run"
            assert shown.page.locator("#silence").is_hidden()
            shown.check(allowed_errors=refused)


def test_it_rests_while_hidden_and_backs_off(browser, tmp_path):
    hide = """(is) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => is });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with server_of(tmp_path) as server, Shown(browser, server, clock=True) as shown:

        def polls(seconds):
            """Asked within so much of the page's time, each answered before that goes on."""
            before = shown.status_requests()
            for _ in range(seconds):
                shown.page.clock.run_for(1000)
                wait_for(lambda: shown.page.evaluate("true") and shown.is_answered(), "its answer")
            return shown.status_requests() - before

        shown.wait("#live-text", "Live")
        assert 4 <= polls(10) <= 6
        shown.page.evaluate(hide, True)
        assert polls(60) <= 1
        before = shown.status_requests()
        shown.page.evaluate(hide, False)
        wait_for(
            lambda: shown.page.wait_for_timeout(20) or shown.status_requests() > before, "a poll"
        )
        shown.check()
        shown.page.route("**/status", lambda route: route.abort())
        polls(4)
        shown.wait("#live-text", "No answer")
        assert 3 <= polls(60) <= 6, "2, 4, 8, 16, 30 s"
        shown.page.unroute("**/status")
        polls(40)
        shown.wait("#live-text", "Live")
        shown.check(allowed_errors="net::ERR_FAILED")


def test_what_is_open_and_focused_stays_so(browser, tmp_path):
    with server_of(tmp_path, MEMORY) as server, contextlib.closing(Cache(server)) as cache:
        cache.look_up(1)
        with Shown(browser, server) as shown:
            shown.wait("#live-text", "Live")
            reason = shown.page.locator("[data-reason=never_stored] summary")
            reason.focus()
            shown.page.keyboard.press("Enter")
            shown.wait("[data-reason=never_stored]", "No worker has stored this prefix")
            shown.wait_polls(2)
            assert shown.page.evaluate("document.activeElement.textContent") == "Never stored"
            assert "No worker has stored this prefix" in shown.text("#misses")
            shown.page.evaluate(
                "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
            )
            shown.page.screenshot(path=tmp_path / "open.png", full_page=True)
            shown.check()
            shown.check_keyboard()


def test_the_skip_link_skips(browser, tmp_path):
    with server_of(tmp_path) as server, Shown(browser, server) as shown:
        shown.wait("#live-text", "Live")
        shown.page.keyboard.press("Tab")
        assert shown.page.evaluate("document.activeElement.textContent") == "Skip to the numbers"
        shown.page.keyboard.press("Enter")
        assert shown.page.evaluate("document.activeElement.id") == "main"


def test_texts_of_clients_are_texts(browser, tmp_path):
    markup = "<img src=x onerror=alert(1)><script>alert(2)</script>\u202e" + "long" * 20
    with (
        server_of(tmp_path) as server,
        contextlib.closing(Cache(server, markup)) as cache,
        RawClient(server.port) as other,
    ):
        other.ask("register", registration(8, model="</table><h1>\x00"))
        cache.look_up(1, salt="<b>salt<b>")

        def check(shown):
            assert rows_of(shown, "#salt-rows")[0][0] == "<b>salt<b>"
            models = shown.page.locator("#worker-rows td:nth-child(2)").all_text_contents()
            assert markup in models
            assert any("</table><h1>" in each for each in models)
            assert shown.page.locator("img, script, h1").count() == 3  # Its own.

        each_look(browser, server, tmp_path, "texts", check)


def test_room_and_quotas_of_salts_are_shown(browser, tmp_path):
    with (
        MpServer("larder", tmp_path / "log", options=["--admin-open"]) as server,
        contextlib.closing(Cache(server)) as cache,
    ):
        cache.look_up(1)
        quota = json.dumps({"limit_gb": 4 / 1024, "guarantee_gb": 1 / 1024}).encode()
        url = f"http://127.0.0.1:{server.http_port}/quota/idle"
        urllib.request.urlopen(urllib.request.Request(url, quota, method="PUT"), timeout=30).close()
        with Shown(browser, server) as shown:
            wait_for(lambda: len(rows_of(shown, "#salt-rows")) == 2, "the second salt", 20)
            rows = [(row[0], row[4]) for row in rows_of(shown, "#salt-rows")]
            assert rows == [("no salt", "0 B"), ("idle", "0 B of 4.00 MiB, 1.00 MiB sure")]
            shown.check()


def test_both_addresses_are_the_page_and_clients_get_json(browser, tmp_path):
    with server_of(tmp_path) as server:
        assert server.get("/") == {"status": "ok", "service": "larder HTTP API"}
        for path in ("/", "/page"):
            with Shown(browser, server, path=path) as shown:
                shown.wait("#live-text", "Live")
                shown.check()
