"""A headless Chromium that shows the page of a server, and what must hold of it in every scene.

The browser is Debian's (scripts/deps.sh --full) or the program that LARDER_CHROMIUM names; playwright
drives it and downloads none."""

import contextlib
import os
import re
import shutil

import pytest
from mp_server import wait_for

# Over its background, which may be several translucent layers; by WCAG 2.1.
CONTRASTS = """() => {
  const color = (text) => {
    const [r, g, b, a] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a ?? 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (; node; node = node.parentElement) layers.push(color(getComputedStyle(node).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const out = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text; (text = walker.nextNode());) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
    const below = behind(node), [a, b] = [light(over(color(getComputedStyle(node).color), below)), light(below)];
    let opacity = 1;
    for (let each = node; each; each = each.parentElement) opacity *= getComputedStyle(each).opacity;
    out.push([opacity * (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.data.trim().slice(0, 40)]);
  }
  return out;
}"""

# What the keyboard must reach: by what the document says, not by what Tab does.
REACHABLE = """() => [...document.querySelectorAll("a[href], button, summary, [tabindex='0']")]
  .filter((node) => node.checkVisibility({ visibilityProperty: true })).map((node) => node.outerHTML.slice(0, 120))"""

FOCUSED = """() => {
  const node = document.activeElement, style = getComputedStyle(node), box = node.getBoundingClientRect();
  return {
    what: node.outerHTML.slice(0, 120), isBody: node === document.body,
    outline: style.outlineStyle === "none" ? 0 : parseFloat(style.outlineWidth),
    isInView: box.width > 0 && box.top >= -1 && box.bottom <= innerHeight + 1 && box.left >= -1 && box.right <= innerWidth + 1,
  };
}"""


def find_browser():
    """playwright's module and the browser's path, or the test is skipped."""
    try:
        from playwright import sync_api
    except ImportError:
        pytest.skip("SKIPPED (no playwright: tests/interop/requirements.txt)")
    path = os.environ.get("LARDER_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("SKIPPED (no chromium: scripts/deps.sh --full, or set LARDER_CHROMIUM)")
    return sync_api, path


@contextlib.contextmanager
def open_browser():
    sync_api, path = find_browser()
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


class Shown:
    """The page of one server in a window of its own."""

    def __init__(
        self, browser, server, *, width=1400, height=900, scheme="light", path="/", clock=False
    ):
        self.server = server
        self.errors = []
        self.asked = []
        self.ended = 0  # Of these, also those that failed.
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: self.errors.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        for event in ("requestfinished", "requestfailed"):
            self.page.on(event, self._on_ended)
        if clock:
            self.page.clock.install()
        self.page.goto(f"http://127.0.0.1:{server.http_port}{path}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.context.close()

    def text(self, selector) -> str:
        """As a reader sees it; blanks that do not break are blanks."""
        return self.page.locator(selector).inner_text().replace("\u00a0", " ").strip()

    def wait(self, selector, text, seconds=30):
        """Until it is shown. The page asks the server every two seconds."""
        locator = self.page.locator(selector)
        wait_for(
            lambda: locator.is_visible() and text in self.text(selector),
            f"'{text}' in {selector}",
            seconds,
            every=0.1,
        )

    def _on_ended(self, _):
        self.ended += 1

    def is_answered(self) -> bool:
        return self.ended == len(self.asked)

    def status_requests(self) -> int:
        return sum(url.endswith("/status") for url in self.asked)

    def wait_polls(self, count=2):
        """Until so many further answers of the server have been shown."""
        enough = self.status_requests() + count + 1
        wait_for(
            lambda: self.page.wait_for_timeout(50) or self.status_requests() >= enough, "polls"
        )

    def check(self, *, allowed_errors=r"$^"):
        """What holds in each scene."""
        errors = [each for each in self.errors if not re.search(allowed_errors, each)]
        assert not errors, errors
        own = f"http://127.0.0.1:{self.server.http_port}/"
        assert all(url.startswith((own, "data:")) for url in self.asked), self.asked
        body = self.page.inner_text("body")
        assert not re.search(r"undefined|NaN|null|Infinity|\[object|\{\{", body), body
        assert not re.search(r"[-–—]\s+[-–—]", body), "dashes where nothing has happened"
        wide = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide[0] <= wide[1], f"it scrolls sideways: {wide}"
        assert not (low := [each for each in self.page.evaluate(CONTRASTS) if each[0] < 4.5]), low

    def check_keyboard(self):
        """Tab comes to everything, in the document's order, and shows where it is."""
        self.page.locator(".skip").focus()  # The first; test_the_skip_link_skips shows that.
        wanted, reached = self.page.evaluate(REACHABLE), []
        for number in range(len(wanted)):
            if number > 0:
                self.page.keyboard.press("Tab")
            focused = self.page.evaluate(FOCUSED)
            assert focused["outline"] >= 2, f"no visible focus: {focused}"
            assert focused["isInView"], focused
            reached.append(focused["what"])
        assert reached == wanted

    def bottom(self, selector) -> float:
        box = self.page.locator(selector).bounding_box()
        return box["y"] + box["height"]
