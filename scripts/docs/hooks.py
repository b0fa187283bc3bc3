"""What the site has beside docs/: the API reference, and the files that pages link to.

A page links to files of the repository as GitHub shows them (`../examples/plain.py`). Each of these is
a page of the site too, below source/, so that the site needs nothing outside itself.
"""

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
import cpp_reference
from pages import outside_fences, spaced

ROOT = Path(__file__).resolve().parents[2]
SOURCES = "source"  # The site's folder of files that are not in docs/.

# What docstrings are shown of a module beside those that its __all__ names.
MORE_OF_PYTHON = {
    "larder.lmcache": [
        "larder.lmcache.l2_adapter.L2Adapter",
        "larder.lmcache.l2_config.L2AdapterConfig",
    ],
}


def python_modules():
    """The public modules of the package, and the native one, of which there is a stub."""
    names = [path.stem for path in (ROOT / "python/larder").iterdir() if path.suffix in ("", ".py")]
    return [
        "larder",
        *sorted(f"larder.{n}" for n in names if not n.startswith("_")),
        "larder._larder",
    ]


# What the writer of a connector meets, in the order in which it is met.
CPP_PAGES = [
    "larder/connector/connector.h",
    "larder/connector/op.h",
    "larder/connector/report.h",
    "larder/base/result.h",
    "larder/connector/registry.h",
    "larder/connectors/builtin.h",
    "larder/connector/blocking_client.h",
    "larder/connector/spec.h",
    "larder/connector/parameters.h",
    "larder/connector/common_parameters.h",
    "larder/connector/metrics.h",
    "larder/connector/worker_pool.h",
    "larder/connector/peer_state.h",
    "larder/connector/reactor.h",
    "larder/connector/intake.h",
    "larder/connector/batch_limits.h",
    "larder/connector/fan_out.h",
    "larder/connector/slices.h",
    "larder/connector/statistics.h",
    "larder/connector/failed_keys.h",
    "larder/connector/tile_scheduler.h",
    "larder/connector/completion_queue.h",
]

LANGUAGES = {
    ".cc": "cpp",
    ".h": "cpp",
    ".py": "python",
    ".pyi": "python",
    ".sh": "bash",
    ".toml": "toml",
    ".json": "json",
    ".yml": "yaml",
    ".yaml": "yaml",
}

LINK = re.compile(r"(\]\()([^)\s]+)(\))")

# By page of the site: the file of the repository that it shows. linked_sources() fills it.
SOURCE_OF = {}


def generate_pages(files, config):
    pages = {python_uri(name): python_page(name) for name in python_modules()}
    pages["reference/cpp/index.md"] = cpp_index()
    for header in CPP_PAGES:
        text = (ROOT / "src" / header).read_text("utf-8")
        pages[cpp_uri(header)] = cpp_reference.page(header, text)
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    shim = (ROOT / "scripts/docs/iframe_worker.js").read_text("utf-8")
    files.append(File.generated(config, "assets/iframe-worker.js", content=shim))
    for path in linked_sources():
        files.append(File.generated(config, site_uri(path), content=source_page(path)))


def python_uri(name):
    return f"reference/python/{name}.md"


def python_page(name):
    note = "The native module, from its stub. Use it through the package.\n\n"
    parts = [f"# {name}\n", note if name == "larder._larder" else "", f"::: {name}\n"]
    for more in MORE_OF_PYTHON.get(name, []):
        parts.append(f"## {more.rpartition('.')[2]}\n\n::: {more}\n")
    return "\n".join(parts)


def cpp_uri(header):
    return f"reference/cpp/{Path(header).stem}.md"


def public_headers():
    """Those that are installed."""
    text = (ROOT / "cmake/install.cmake").read_text("utf-8")
    listed = re.search(r"set\(larder_public_headers\s([^)]*)\)", text)[1]
    return {f"larder/{name}" for name in listed.split()}


def cpp_index():
    public = public_headers()
    rows = "\n".join(
        f"- [{header}]({posixpath.basename(cpp_uri(header))})"
        + ("" if header in public else ": within larder's sources only")
        for header in CPP_PAGES
    )
    return f"""# The connector contract in C++

These pages are made from the headers' own comments. [Write a connector](../../write_a_connector.md)
says which of them you need: `connector.h` is the contract, and either `worker_pool.h` or `reactor.h`
does most of the work.

{rows}
"""


# --- Files outside docs/ --------------------------------------------------------------------------


def repository_path(uri):
    """Where a page of the site is in the repository; None: nowhere, it is generated."""
    if uri.startswith(f"{SOURCES}/"):
        return SOURCE_OF[uri]
    return f"docs/{uri}" if (ROOT / "docs" / uri).is_file() else None


def target_of(page, link):
    """The file or folder of the repository that a link on a page leads to, or None."""
    path = link.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
    return target if not target.startswith("..") and (ROOT / target).exists() else None


def site_uri(path):
    """Where the site has a file or a folder of the repository."""
    is_ours = path.startswith("docs/")
    uri = path.removeprefix("docs/") if is_ours else f"{SOURCES}/{path}"
    if (ROOT / path).is_dir():
        return f"{uri}/index.md"
    if is_ours:  # A page or an image.
        return uri
    if path.endswith("/README.md"):
        return f"{uri.removesuffix('README.md')}index.md"
    return uri if path.endswith(".md") else f"{uri}.md"


def linked_sources():
    """Every file and folder outside docs/ that a page links to, or one that is linked to."""
    SOURCE_OF.clear()
    to_read = [str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")]
    while to_read:
        page = to_read.pop()
        text = (ROOT / page).read_text("utf-8")
        for line, is_text in outside_fences(text):
            for _, link, _ in LINK.findall(line) if is_text else []:
                target = target_of(page, link)
                if target is None or target.startswith("docs/") or site_uri(target) in SOURCE_OF:
                    continue
                SOURCE_OF[site_uri(target)] = target
                readme = f"{target}/README.md"
                if target.endswith(".md"):
                    to_read.append(target)
                elif (ROOT / readme).is_file():
                    SOURCE_OF[site_uri(target)] = readme
                    to_read.append(readme)
    return list(SOURCE_OF.values())


def source_page(path):
    at = ROOT / path
    if at.is_dir():
        names = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in at.iterdir())
        return f"# {path}/\n\n" + "\n".join(f"- `{name}`" for name in names) + "\n"
    text = at.read_text("utf-8")
    if path.endswith(".md"):
        return text
    fence = "````" if "```" in text else "```"
    return f"# {path}\n\n{fence}{LANGUAGES.get(at.suffix, 'text')}\n{text}{fence}\n"


def with_links_of_the_site(text, page, uri):
    """Links to files of the repository lead to their pages."""

    def replaced(found):
        target = target_of(page, found[2])
        if target is None:
            return found[0]
        _, hash_sign, anchor = found[2].partition("#")
        path = posixpath.relpath(site_uri(target), posixpath.dirname(uri) or ".")
        return f"{found[1]}{path}{hash_sign}{anchor}{found[3]}"

    return "\n".join(
        LINK.sub(replaced, line) if is_text else line for line, is_text in outside_fences(text)
    )


# --- What mkdocs calls ----------------------------------------------------------------------------


def on_config(config):
    config.nav = with_generated(config.nav)
    return config


def with_generated(entries):
    """The navigation, with the pages of a generated folder in place of its name."""
    folders = {
        "reference/python/": [python_uri(name) for name in python_modules()],
        "reference/cpp/": ["reference/cpp/index.md", *map(cpp_uri, CPP_PAGES)],
    }
    filled = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, value),) = entry.items()
            entry = {
                title: (
                    with_generated(value) if isinstance(value, list) else folders.get(value, value)
                )
            }
        filled.append(entry)
    return filled


def on_files(files, config):
    try:
        generate_pages(files, config)
    except cpp_reference.Undocumented as error:
        raise PluginError(str(error)) from error
    return files


def on_page_markdown(markdown, page, config, files):
    path = repository_path(page.file.src_uri)
    if path is not None:
        markdown = with_links_of_the_site(markdown, path, page.file.src_uri)
    if page.file.src_uri.startswith(f"{SOURCES}/"):
        page.meta.setdefault("search", {"exclude": True})
    return spaced(markdown)
