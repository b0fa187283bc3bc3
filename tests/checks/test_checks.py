"""Each check of scripts/check.sh passes on the tree as it is, and fails on a fault planted in a copy of it."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
full_only = pytest.mark.skipif("LARDER_FULL" not in os.environ, reason="SKIPPED (needs LARDER_FULL=1)")


def run(*command, cwd, **environment):
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


class Tree:
    """A copy of the sources in a repository of its own, with the environments of the original."""

    def __init__(self, directory):
        self.path = directory
        listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, directory / name)
        (directory / "build").mkdir()
        (directory / "build/venv").symlink_to(ROOT / "build/venv")
        self.git("init", "-q", "-b", "main")
        self.commit()

    def git(self, *arguments):
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        ended = run("git", *who, *arguments, cwd=self.path)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "all")

    def append(self, name, text):
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(text)
        self.git("add", "-A")  # The checks look at what git knows.

    def check(self, *names, **environment):
        return run("scripts/check.sh", *names, cwd=self.path, **environment)


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def must_fail(ended, name, *words):
    assert ended.returncode == 1, ended.stdout
    assert f"checks: failed: {name}" in ended.stdout
    for word in words:
        assert word in ended.stdout


def test_format(tree):
    tree.append("src/larder/base/clock.cc", "int  badly   ;\n")
    must_fail(tree.check("format"), "format", "src/larder/base/clock.cc")


def test_ruff(tree):
    tree.append("bench/quartiles.py", "\nprint(undefined)\n")
    must_fail(tree.check("ruff"), "ruff", "F821", "bench/quartiles.py")


def test_mypy(tree):
    tree.append("python/larder/hints.py", '\n\ndef planted() -> int:\n    return "1"\n')
    must_fail(tree.check("mypy"), "mypy", "python/larder/hints.py", "[return-value]")


def test_shellcheck(tree):
    tree.append("scripts/deps.sh", "rm $1\n")
    must_fail(tree.check("shellcheck"), "shellcheck", "scripts/deps.sh", "SC2086")


@pytest.mark.parametrize("page", ["connectors", "server_options", "server_metrics", "metrics"])
def test_generated(tree, page):
    if not (ROOT / "build/release/apps/larder/larder").exists():
        pytest.skip("SKIPPED (needs a release build: cmake --build --preset release)")
    (tree.path / "build/release").symlink_to(ROOT / "build/release")
    tree.append(f"docs/{page}.md", "One line more.\n")
    must_fail(tree.check("generated"), "generated", f"docs/{page}.md is not what", "-One line more.")


def test_generated_without_a_build_says_what_to_build(tree):
    must_fail(tree.check("generated"), "generated", "cmake --build --preset release --target larder")


def test_tidy_looks_at_what_changed(tree):
    first = tree.git("rev-parse", "HEAD").strip()
    ended = tree.check("tidy")
    assert ended.returncode == 0 and "no C++ file changed" in ended.stdout, ended.stdout
    tree.append("src/larder/base/mac.cc", "namespace larder { int BadName() { return 1; } }\n")
    must_fail(tree.check("tidy", LARDER_BASE=first), "tidy", "BadName", "readability-identifier-naming")
    tree.commit()
    must_fail(tree.check("tidy"), "tidy", "BadName", "1 files")
    ended = tree.check("tidy", LARDER_BASE=tree.git("rev-parse", "HEAD").strip())
    assert ended.returncode == 0 and "no C++ file changed" in ended.stdout, ended.stdout


def test_several_checks_go_on_after_a_failure(tree):
    tree.append("scripts/deps.sh", "rm $1\n")
    tree.append("bench/quartiles.py", "\nprint(undefined)\n")
    ended = tree.check("shellcheck", "mypy", "ruff")
    must_fail(ended, "shellcheck ruff", "mypy: good")


def test_an_unknown_check_is_refused(tree):
    ended = tree.check("ruff", "rufff")
    assert ended.returncode == 2 and "unknown check 'rufff'; known: format" in ended.stdout


@full_only
def test_docs(tree):
    tree.append("docs/testing.md", "\n[nowhere](no_such_page.md)\n")
    must_fail(tree.check("docs"), "docs", "no_such_page.md")


@full_only
def test_bench(tree):
    program = tree.path / "bench/what_if_benchmark.cc"
    program.write_text(program.read_text(encoding="utf-8").replace("BENCHMARK_MAIN();", "int main() { return 1; }"))
    must_fail(tree.check("bench"), "bench", "larder_what_if_benchmark")


@full_only
@pytest.mark.parametrize(
    ("check", "body", "words"),
    [
        ("asan", "std::vector<int> some(4); volatile int at = 4; EXPECT_EQ(some.data()[at], some[0]);",
         "heap-buffer-overflow"),
        ("asan", "volatile int most = 2147483647; most = most + 1;", "signed integer overflow"),
        ("tsan", "int count = 0; std::thread other([&] { ++count; }); ++count; other.join();", "data race"),
    ],
)  # fmt: skip
def test_sanitizers(tree, check, body, words):
    test = tree.path / "src/larder/base/mac_test.cc"
    text = test.read_text(encoding="utf-8")
    test.write_text(
        "#include <thread>\n#include <vector>\n" + text + f"\nTEST(Planted, Fault) {{ {body} }}\n",
        encoding="utf-8",
    )
    must_fail(tree.check(check, LARDER_FOLDERS="base"), check, "Planted.Fault", words)


def test_mutation():
    program = ROOT / "build/asan/tests/mutation/larder_mutation_check"
    if not program.exists():
        pytest.skip("SKIPPED (needs a build: scripts/check.sh mutation)")
    # Some 4,000 seeds notice it.
    ended = run(program, "--only", "move_only_current", "--seeds", "1", cwd=ROOT)
    assert ended.returncode == 1 and ended.stdout.endswith("NOT all noticed\n"), ended.stdout
    ended = run(program, "--only", "no_such_rule", cwd=ROOT)
    assert ended.returncode == 2 and "no_such_rule" in ended.stdout


def test_nightly_goes_on_after_a_failure_and_says_so(tree):
    script = tree.path / "scripts/nightly.sh"
    text = script.read_text(encoding="utf-8")
    for ring, body in (
        ("seeds", "run_check seeds false"),
        ("cuts", "sleep 600"),
        ("mutation", "run_check mutation true"),
        ("wheel", "exit 3"),
    ):
        text = text.replace(f"ring_{ring}() {{\n", f"ring_{ring}() {{\n  {body}\n  return\n")
    text = text.replace("scripts/deps.sh --full\n", "").replace('"${bound}m"', "5s")
    script.write_text(text, encoding="utf-8")
    ended = run(script, "--minutes", "1", "--only", "seeds", "cuts", "mutation", "wheel", cwd=tree.path)
    assert ended.returncode == 1, ended.stdout
    table = ended.stdout.split("\nring ")[1].splitlines()[1:5]
    assert [(line.split()[0], line.split()[2]) for line in table] == [
        ("seeds", "1"),
        ("cuts", "124"),
        ("mutation", "0"),
        ("wheel", "3"),
    ]
    assert ended.stdout.endswith("\n1 passed, 3 failed, 0 skipped\n")
