"""larder-server.service: what systemd says of it, and a run of its command as it stands."""

import resource
import shutil
import subprocess
import tomllib

import pytest
from deployed import DEPLOY, LARDER, Served, checked, environment, small_copy, words_of

UNIT = DEPLOY / "systemd/larder-server.service"
CONFIGURATION = "/etc/larder/larder.toml"


def settings():
    """The values of each key of the unit, in their order; an empty one begins anew in systemd."""
    found = {}
    for line in UNIT.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(text):
    for unit, factor in {"min": 60, "s": 1}.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


def limit_of(kind, text):
    """What the unit asks for, or as much of it as this process may have, for prlimit."""
    hard = resource.getrlimit(kind)[1]
    limits = [int(text)] if text != "infinity" else []
    limits += [hard] if hard != resource.RLIM_INFINITY else []
    return min(limits, default="unlimited")


@pytest.fixture
def analyze(tmp_path):
    """Runs systemd-analyze on a copy of the unit, with the command where the test has it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("SKIPPED (needs systemd-analyze, of Debian's package systemd)")

    def run(*arguments, more=""):
        unit = tmp_path / UNIT.name
        text = UNIT.read_text("utf-8").replace("ExecStart=larder ", f"ExecStart={LARDER} ")
        unit.write_text(text.replace("[Install]", f"{more}\n[Install]"), "utf-8")
        ended = subprocess.run(
            ["systemd-analyze", *arguments, unit], capture_output=True, text=True, check=False
        )
        return ended.returncode, ended.stdout + ended.stderr

    return run


def test_systemd_finds_nothing_wrong_with_it(analyze):
    assert analyze("verify", "--man=no") == (0, "")
    assert "'LimitNOFILES'" in analyze("verify", "--man=no", more="LimitNOFILES=1")[1]


def test_it_may_do_little(analyze):
    """Of 100, which is a service without any restriction."""
    code, text = analyze("security", "--offline=yes", "--no-pager", "--threshold=20")
    assert code == 0, text
    code, _ = analyze(
        "security",
        "--offline=yes",
        "--no-pager",
        "--threshold=20",
        more="NoNewPrivileges=no\nCapabilityBoundingSet=~",
    )
    assert code != 0


def test_its_user_is_made(tmp_path):
    if not shutil.which("systemd-sysusers"):
        pytest.skip("SKIPPED (needs systemd-sysusers, of Debian's package systemd)")
    (tmp_path / "etc").mkdir()
    subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", DEPLOY / "systemd/larder.conf"], check=True
    )
    made = {line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    assert settings()["User"] == settings()["Group"] == ["larder"]
    assert "larder" in made


def test_the_file_fits_the_unit():
    unit = settings()
    configuration = tomllib.loads((DEPLOY / "larder.toml").read_text("utf-8"))
    checked(DEPLOY / "larder.toml")
    assert unit["ExecStart"] == [f"larder server --config {CONFIGURATION}"]
    assert CONFIGURATION.startswith(f"/etc/{unit['ConfigurationDirectory'][0]}/")
    for adapter in configuration["l2_adapter"]:
        assert adapter["path"].startswith(f"/var/lib/{unit['StateDirectory'][0]}/")
    assert seconds(unit["TimeoutStopSec"][0]) >= configuration["drain_seconds"] + 30


def test_it_runs_as_the_unit_says(tmp_path):
    unit = settings()
    text = (DEPLOY / "larder.toml").read_text("utf-8")
    path = small_copy(text, tmp_path, ["/var/lib/larder"])
    command = words_of(unit["ExecStart"][0], {"larder": LARDER, CONFIGURATION: str(path)})
    limits = [
        f"--nofile={limit_of(resource.RLIMIT_NOFILE, unit['LimitNOFILE'][0])}",
        f"--memlock={limit_of(resource.RLIMIT_MEMLOCK, unit['LimitMEMLOCK'][0])}",
    ]
    assert unit["Type"] == ["notify"]
    with Served(["prlimit", *limits, *command], tmp_path) as server:
        assert server.ping() is not None
        assert server.request("/healthcheck")[0] == 200
        assert (tmp_path / "var/lib/larder/kv").is_dir()
        assert server.pool.stat().st_mode & 0o777 == 0o600
        code, told = server.terminate()
        assert code == 0, server.text()
        assert told["STOPPING"] == "1"
        # The drain and what comes after it: the manager waits that long, whatever the unit says.
        assert int(told["EXTEND_TIMEOUT_USEC"]) == (30 + 30) * 1_000_000
        assert not server.pool.exists()


def test_what_stays_wrong_is_not_started_again(tmp_path):
    path = tmp_path / "larder.toml"
    path.write_text("l1_size_gb = 16\nportt = 5555\n", "utf-8")
    command = words_of(settings()["ExecStart"][0], {"larder": LARDER, CONFIGURATION: str(path)})
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert str(ended.returncode) in settings()["RestartPreventExitStatus"], ended.stderr
    assert settings()["Restart"] == ["on-failure"]
