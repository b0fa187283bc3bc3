"""What builds the site (scripts/docs.sh, which .ci/run runs): its parts, and that no page is left out."""

import sys

import pytest
from documented import ROOT

sys.path.insert(0, str(ROOT / "scripts/docs"))
import check_site
import cpp_reference
from pages import spaced

PAGES = sorted(str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_the_navigation_has_every_page(page):
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n")[1].split("\n\n")[0]
    entries = [line.rpartition(" ")[2] for line in navigation.splitlines()]
    assert entries.count(page) == 1, f"add docs/{page} to `nav` of mkdocs.yml"


HEADER = """\
#pragma once
#include <map>
namespace larder {

class Later;
/// How much.
struct Limits {
  int keys = 1;  ///< At least 1.
};

inline constexpr int kMany = 4;

/// Keeps things.
///
/// C1  The first rule, which
///     goes on.
/// C2  The second.
class Keeper {
 public:
  /// Any thread.
  void keep(int thing) { things_.push_back(thing); }

 private:
  std::vector<int> things_;
};

/// Their sum.
constexpr int sum(int a, int b) noexcept {
  return a + b;
}

}  // namespace larder
"""


def test_the_reference_has_declarations_with_their_comments():
    page = cpp_reference.page("larder/connector/keeper.h", HEADER)
    assert page.index("## Keeper") < page.index("## Limits") < page.index("## sum")
    assert "- **C1** The first rule, which\n    goes on.\n- **C2** The second." in page
    assert "constexpr int sum(int a, int b) noexcept;" in page
    assert "inline constexpr int kMany = 4;" in page
    assert "  void keep(int thing)" in page
    assert "things_;" not in page, "it is private"
    assert "Later" not in page


@pytest.mark.parametrize("comment", ["/// Their sum.\n", "/// How much.\n"])
def test_a_declaration_without_a_comment_is_an_error(comment):
    with pytest.raises(cpp_reference.Undocumented, match=r"keeper\.h:\d+: (sum|Limits) has no comment"):
        cpp_reference.page("larder/connector/keeper.h", HEADER.replace(comment, ""))


def test_markdown_of_github_is_spaced_for_the_site():
    assert spaced("Two:\n- a\n  - b\n- c\n\nText.") == "Two:\n\n- a\n    - b\n- c\n\nText."
    assert spaced("Rows:\n| a |\n|---|\n| b |") == "Rows:\n\n| a |\n|---|\n| b |"
    assert spaced("```\nTwo:\n- a\n[x][y]\n```") == "```\nTwo:\n- a\n[x][y]\n```"
    assert spaced("host[:port][/db]") == "host[:port]\\[/db]"


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="b.html#there">x</a>', None),
        ('<a href="https://example.com">x</a>', None),
        ('<a href="b.html#gone">x</a>', "b.html#gone: the page has no such heading"),
        ('<a href="c.html">x</a>', "c.html is not there"),
        ('<img src="c.png">', "c.png is not there"),
        ('<script src="https://example.com/x.js"></script>', "fetches https://example.com/x.js"),
        ('<link rel="stylesheet" href="//example.com/x.css">', "fetches //example.com/x.css"),
    ],
)
def test_a_site_with_a_fault_is_refused(tmp_path, html, said):
    (tmp_path / "a.html").write_text(f"<html><body>{html}</body></html>")
    (tmp_path / "b.html").write_text('<html><body><h2 id="there">There</h2></body></html>')
    found = [text for text in check_site.problems(tmp_path) if "not the whole site" not in text]
    assert found == ([f"a.html: {said}"] if said else [])
