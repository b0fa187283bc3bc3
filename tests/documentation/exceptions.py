"""What the test of documented commands does not take as it is written, each with its reason.

Paths of the documentation are directories of the test's own (PATHS), so that it needs no root and
touches nothing. What would take minutes or many gigabytes is made shorter (SHORTER), which changes
amounts and never what is done.
"""

import re

# What the documentation writes, and where that is in the test: {data} and {bin} are directories,
# {home} is the home directory, {port} is a Redis server of its own.
PATHS = [
    (r"(?<![\w.])/data\b", "{data}"),
    (r"/your/disk/", "{data}/your-disk/"),
    (r"/mnt/", "{data}/mnt/"),
    (r"/fast\b", "{data}/fast"),
    (r"(?<=log:)DIR(?=\?)", "{data}/DIR"),
    (r"(?<= )DIR\b", "{data}/kv"),
    (r"/run/secrets/", "{home}/secrets/"),
    (r"/etc/larder\.toml", "{home}/larder.toml"),
    (r"/etc/larder/", "{home}/etc/"),
    (r"/usr/local/bin", "{bin}"),
    (r"127\.0\.0\.1:6379", "127.0.0.1:{port}"),
    (r"/run/larder\.sock", "{home}/larder.sock"),
    (r"/run/larder-admin\.sock", "{home}/admin.sock"),
    (r"127\.0\.0\.1:(9187|8080)", "127.0.0.1:{metrics_port}"),
]

# (which commands, what is added or replaced, why)
SHORTER = [
    (r"^larder bench (?!.*--bytes)", r"\Z", " --bytes 32MiB", "a GiB or more in each pass"),
    (r"^larder bench (?!.*--pairs)", r"\Z", " --pairs 1", "seven pairs"),
    (r"^larder bench (?!.*--no-fio)", r"\Z", " --no-fio", "eight engines of fio are tried first"),
    (
        r"^larder bench .*--mode store(?!.*--first-turn)(?!.*--size \w+,)",
        r"\Z",
        " --first-turn",
        "the whole store is written first",
    ),
    (
        r"^larder bench .*--mode store .*--size \w+,",  # --first-turn measures one size.
        r"capacity=\d+GiB",
        "capacity=1GiB",
        "the whole store is written first",
    ),
    (r"larder replay (?!.*--requests)", r"\Z", " --requests 5", "12,031 requests"),
    (r"--prefill", r"\b\d+GiB", "512MiB", "every segment is written"),
    (
        r"larder server(?!.*--(check|help|(metrics-)?markdown))",
        r"\Z",
        " --check",
        "it serves until it is told to end",
    ),
    (
        r"^larder top *(#|$)",
        r"\Z",
        " 127.0.0.1:8080",
        "the port of a server is not the one that the test has",
    ),
    (r"^larder stats .*--every", r" --every \d+", "", "it goes on until it is interrupted"),
]

# Commands that find what others made, and what makes it in the test.
BEFORE = [
    (r"^larder (stats (?!--list)|top)", "serve_metrics"),
    (r"larder inspect /fast/kv", "larder format /fast/kv --capacity 512MiB"),
    (r"larder inspect|rm -r /data/kv", "make_store"),
    (r"larder server .*/etc/larder\.toml", "cp examples/larder.toml /etc/larder.toml"),
    (
        r"larder server .*/etc/larder/larder\.toml",
        "install -D -m 644 deploy/larder.toml /etc/larder/larder.toml",
    ),
    (
        r"^LARDER_PLUGINS=\S+ larder server",
        "cc -shared -fPIC -I src examples/c_plugin/drawer.c -o drawer.so",
    ),
    (r"^curl .*(--unix-socket|/quota|-sf http://127\.0\.0\.1:8080/)", "serve"),
    (r"sqlite:/data/kv\.db|^python -m pytest tests$", "install_example"),
    (r"^cp -a /data/kv /fast/kv", "larder format /data/kv --capacity 512MiB && mkdir /fast"),
    (r"^larder replay trace\.jsonl log:/data/kv$", "larder format /data/kv --capacity 512MiB"),
    (r"^rm -r /data/quickstart", "mkdir /data/quickstart"),
    (
        r"^rm -r /data/tutorial",
        "mkdir /data/tutorial /data/tutorial-2 /data/tutorial-3 /data/replay /data/kv",
    ),
    (
        r"^install ~/larder/bin/larder",
        'mkdir -p ~/larder/bin && cp "$(command -v larder)" ~/larder/bin/larder',
    ),
]

# Commands that answer with another exit code where all is as it should be, and what they say then.
OTHER_ENDS = [
    (r"^larder doctor", 1, r"[1-9]\d* problems?\n"),
    (r"^larder doctor .*--json", 1, r'"level": "problem"'),
    (r"^larder bench (?!.*--warm)", 1, r"NOT COLD"),
    (r"^curl .*/cache/prefetches", 22, r"503"),  # No engine is there.
]

# What is checked without being run: that it can be read, and that its specs can.
READ_ONLY = [
    (r"^lmcache ", "needs LMCache; tests/interop starts such servers"),
    (
        r"^(\w+=\S+ )*vllm ",
        "needs vLLM and a model; tests/interop/test_vllm.py and test_vllm_tier.py do",
    ),
    (r"^export .*LMCACHE_", "is LMCache's; tests/interop/test_lmcache_values.py reads it so"),
    (
        r"^(LARDER=\S+ )?sglang ",
        "needs SGLang, a GPU and a model; tests/interop/test_sglang.py does",
    ),
]

NOT_RUN = [
    (r"^\./test\.sh", "it is what runs this test"),
    (r"^\./quickstart\.sh", "minutes; with LARDER_FULL=1 it is run by a test of its own"),
    (r"^scripts/deps\.sh|^apt-get ", "installs packages; ./test.sh began with it"),
    (r"^python3 -m venv|^source .*activate|^pip install", "scripts/python_env.sh did the same"),
    (
        r"^(cmake --(preset|build)|ctest|build/|LARDER_SEED=\d+ build/)",
        "the C++ tests, which ./test.sh runs",
    ),
    (
        r"^cmake -S \. -B build|^g\+\+ .*pkg-config",
        "needs larder installed; tests/deploy/test_development.py does the same",
    ),
    (r"^cpack |^dpkg ", "needs root; tests/deploy and scripts/packages.sh do the same"),
    (r"^mdadm |^mkfs|^mount |^mkdir -p /data$", "needs root and two empty disks"),
    (r"^cmake --install|^systemctl |^systemd-sysusers$|^journalctl ", "needs root and systemd"),
    (r"^install .* (/usr/(local/)?share/|/var/lib/)", "needs root, and what came before it"),
    (r"^podman ", "needs podman; deploy/container/check.sh builds the image and starts it"),
    (r"kubectl ", "needs a cluster; tests/deploy checks the manifests"),
    (r"^tests/fuzz/run\.sh", "needs clang; scripts/nightly.sh runs it"),
    (r'^(LARDER_FOLDERS="[^"]*" )?scripts/check\.sh', "needs clang; .ci/run runs the checks"),
    (r"^scripts/nightly\.sh", "hours; it is what runs this test by night"),
    (
        r"^larder (bench|format|replay|inspect|server|size|stats|top)$",
        "names the command within a sentence",
    ),
    (
        r"^larder (stats|top) ADDRESS$"
        r"|^larder (inspect --verify|evicts by itself|connectors TYPE|help COMMAND)$",
        "names a form",
    ),
    (r"^source ~/", "what activating does, within a sentence"),
    (r"^curl -s http://localhost:8000/", "needs vLLM; tests/interop/test_mp_vllm.py does the same"),
    (r"^curl .*localhost:30000/hicache", "needs SGLang's server, and so a GPU"),
]

# What a spec may end with whose spelling is right: what it names has to be there.
SPEC_NEEDS = r"has no directory and no server|tls_ca=\S+ cannot be read"

# Blocks in Python that are more than read: those that open their own store and need no model.
PYTHON_RUN = r"(?s)^import larder\n(?!.*(?:LMCache|transformers))"


def shorter(text):
    """The command with less to do."""
    for commands, what, replacement, _ in SHORTER:
        # A comment behind the command would take what is added.
        if re.search(commands, text, re.DOTALL):
            text = re.sub(what, replacement, without_comment(text))
    return text


def without_comment(text):
    return re.sub(r"\s+#.*\Z", "", text)


def first_match(rules, text):
    """The rule whose first entry is found in `text`, or None."""
    return next((rule for rule in rules if re.search(rule[0], text, re.DOTALL)), None)
