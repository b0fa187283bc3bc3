"""Every command of the documentation runs as it is written, or stands in exceptions.py with a reason."""

import ast
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import IS_FULL
from documented import (
    ROOT,
    Block,
    Command,
    blocks_of_markdown,
    commands_of_block,
    commands_of_help,
    commands_of_markdown,
    commands_of_quickstart,
    is_whole,
    pages,
)
from exceptions import (
    BEFORE,
    NOT_RUN,
    OTHER_ENDS,
    PYTHON_RUN,
    READ_ONLY,
    SPEC_NEEDS,
    first_match,
    shorter,
)

from larder.sglang._options import options

LARDER = Path(sys.executable).parent / "larder"


def larder(*arguments):
    return subprocess.run([LARDER, *arguments], capture_output=True, text=True, check=False)


def help_commands():
    names = re.search(r"Subcommands:\n(.*?)\n\n", larder("--help").stdout, re.DOTALL)[1]
    for name in re.findall(r"^  (\S+)", names, re.MULTILINE):
        yield from commands_of_help(name, larder(name, "--help").stdout)


def all_commands():
    quickstart = commands_of_quickstart(
        {
            "larder": "larder",
            "trace": "bench/data/mooncake_conversation_trace.jsonl.zst",
            "directory": "/data/quickstart",
            "capacity": "4GiB",
        }
    )
    documented = itertools.chain.from_iterable(commands_of_markdown(page) for page in pages())
    found = {}
    for command in itertools.chain(documented, help_commands(), quickstart):
        found.setdefault(command.text, command)  # The same line twice is one test.
    return list(found.values())


COMMANDS = all_commands()
RUN = [command for command in COMMANDS if not first_match(NOT_RUN + READ_ONLY, command.text)]
READ = [command for command in COMMANDS if first_match(READ_ONLY, command.text)]


def specs_in(value):
    """Every spec, L2 adapter and backend of SGLang's within a JSON value."""
    if isinstance(value, dict):
        if value.get("type") in ("native_plugin", "plugin"):
            parameters = dict(value["adapter_params"])
            for door in ["load_timeout", "evict", "lmcache_capacity_gb"]:
                parameters.pop(door, None)
            yield parameters.pop("url", None) or json.dumps(parameters)
        elif value.get("module_path") == "larder.sglang":
            yield options(value).url
        elif "type" in value:
            yield json.dumps(value)
        elif any(name.startswith("remote_storage_plugin.") for name in value):
            yield from (spec for name, spec in value.items() if name.endswith(".url"))
        else:
            for inner in value.values():
                yield from specs_in(inner)


def expect_spec_can_be_read(spec, sandbox):
    code, output = sandbox.run(f"larder doctor {shlex.quote(spec)}")
    # 2: it cannot be read. That this machine has a problem is not the documentation's fault.
    assert code in (0, 1) or re.search(SPEC_NEEDS, output), f"{spec}: {output}"


def expect_specs_can_be_read(value, sandbox):
    for spec in specs_in(value):
        expect_spec_can_be_read(spec, sandbox)


@pytest.mark.parametrize("command", READ, ids=str)
def test_a_command_that_needs_another_program_has_specs_that_can_be_read(command, sandbox):
    assert "..." not in command.text, "it cannot be pasted"
    for word in shlex.split(command.text, comments=True):
        value = re.sub(r"^\w+=", "", word)  # As of a variable.
        if value.startswith("{"):
            expect_specs_can_be_read(json.loads(value), sandbox)
        elif word.startswith("LARDER="):
            expect_spec_can_be_read(value, sandbox)


@pytest.mark.parametrize("command", RUN, ids=str)
def test_a_documented_command_runs_as_it_is_written(command, sandbox):
    before = first_match(BEFORE, command.text)
    if before and before[1].isidentifier():
        getattr(sandbox, before[1])()
    elif before:
        assert sandbox.run(before[1])[0] == 0
    code, output = sandbox.run(shorter(command.text), command.folder)
    is_other_end = any(
        re.search(pattern, command.text) and code == other and re.search(said, output)
        for pattern, other, said in OTHER_ENDS
    )
    assert code == 0 or is_other_end, f"exit code {code}\n{output[-3000:]}"


@pytest.mark.parametrize("rule", [*NOT_RUN, *READ_ONLY, *BEFORE], ids=lambda rule: rule[0])
def test_an_exception_is_still_one_of_a_command(rule):
    assert rule[1]
    assert any(re.search(rule[0], command.text) for command in COMMANDS), "remove it"


def test_each_source_has_its_commands():
    sources = [command.source.split(":")[0] for command in RUN]
    for expected, at_least in [
        ("README.md", 10),
        ("quickstart.sh", 4),
        ("docs/operations.md", 6),
        ("docs/specs.md", 4),
        ("examples/python_connector/README.md", 2),
        ("larder bench --help", 4),
        ("larder inspect --help", 4),
        ("larder replay --help", 3),
        ("larder size --help", 4),
    ]:
        assert sources.count(expected) >= at_least, expected


def test_a_store_is_remembered_from_one_documented_line_to_the_next(sandbox):
    """Lines of docs/specs.md that follow each other do so in one directory."""
    lines = [
        "larder replay trace.jsonl 'log:/data/kv?capacity=200GiB' --requests 5",
        "larder replay trace.jsonl log:/data/kv --requests 5",
    ]
    page = (ROOT / "docs/specs.md").read_text()
    for line in lines:
        assert line.removesuffix(" --requests 5") in page
        code, output = sandbox.run(line)
        assert code == 0, output
    assert "were there at the start, of an earlier run" in output


def json_values(text):
    """Those of a block that has several, one behind the other."""
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].strip()


def blocks(language):
    found = [block for page in pages() for block in blocks_of_markdown(page, language)]
    return pytest.mark.parametrize("block", found, ids=str)


@blocks("json")
def test_a_block_of_json_can_be_read(block, sandbox):
    for value in json_values(block.text):
        expect_specs_can_be_read(value, sandbox)


@blocks("yaml")
def test_a_block_of_yaml_can_be_read(block, sandbox):
    expect_specs_can_be_read(yaml.safe_load(block.text), sandbox)


@blocks("spec")
def test_a_block_of_specs_can_be_read(block, sandbox):
    for spec in block.text.splitlines():
        expect_spec_can_be_read(spec, sandbox)


@blocks("python")
def test_a_block_of_python_can_be_read_and_the_whole_ones_run(block, sandbox):
    compile(block.text, block.source, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if not re.search(PYTHON_RUN, block.text):
        return
    sandbox.sources.joinpath("block.py").write_text(sandbox.mapped(block.text))
    code, output = sandbox.run("python block.py")
    assert code == 0, output


@blocks("text")
def test_a_block_of_text_hides_no_command(block):
    for line in block.text.splitlines():
        assert not re.match(r"\s*(\$ |larder |lmcache |pip |\./|sudo )", line), line


@pytest.mark.skipif(not IS_FULL, reason="SKIPPED (needs LARDER_FULL=1)")
def test_quickstart_ends_with_its_lines(tmp_path):
    ended = subprocess.run(
        ["./quickstart.sh"],
        cwd=ROOT,
        env={
            **os.environ,
            "LARDER_QUICKSTART_DIR": str(tmp_path / "store"),
            "LARDER_QUICKSTART_CAPACITY": "2GiB",
        },
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert "== What to try next" in ended.stdout


# --- The test's own parts ------------------------------------------------------------------------


def texts(text):
    return [command.text for command in commands_of_block(Block("", "page.md:1", text))]


def test_every_line_of_a_shell_block_is_a_command():
    assert texts("$ larder bench x\noutput\n$ ls\n") == ["larder bench x", "ls"]
    assert texts("larder doctor x  # why\n\n# a comment\nnever-seen --before\n") == [
        "larder doctor x  # why",
        "never-seen --before",
    ]
    assert texts("lmcache server --l2 '{\"a\":\n  1}'\nlarder help\n") == [
        "lmcache server --l2 '{\"a\":\n  1}'",
        "larder help",
    ]
    assert not is_whole("larder bench \\")
    assert str(Command("larder x\ny", "page.md:1")) == "page.md:1 larder x"


def test_examples_of_a_help_are_all_of_its_lines():
    text = "Usage: x\n\nExamples:\n  larder a   # one\n  zcat b | larder c\n\nA word more.\n"
    assert [command.text for command in commands_of_help("a", text)] == [
        "larder a   # one",
        "zcat b | larder c",
    ]


def test_what_is_made_shorter_is_still_the_same_command():
    bench = "larder bench 'log:/data/b?capacity=16GiB' --mode store --size 1MiB   # beside fio"
    assert shorter(bench) == (
        "larder bench 'log:/data/b?capacity=16GiB' --mode store --size 1MiB"
        " --bytes 32MiB --pairs 1 --no-fio --first-turn"
    )
    assert shorter("larder doctor /data/kv") == "larder doctor /data/kv"


def test_a_command_that_fails_is_noticed(sandbox):
    code, output = sandbox.run("larder bench 'log:/data/b?capacity=1MiB'")
    assert code == 2
    assert "at least 31 are needed" in output
