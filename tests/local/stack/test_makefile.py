"""The Makefile as a person calls it, on a folder whose stack has never been started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from local.stack import settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stack that has a log."""
    monkeypatch.setenv("PORT_OFFSET", "auto")
    stack = settings.load_or_create(tmp_path / "home")
    stack.log.mkdir(exist_ok=True)
    log = "first \x1b[32mgreen\x1b[0m\nsecond \x1b]0;title\x07\x9b2J\u202e é\tend\nthird\n"
    (stack.log / "kafka.log").write_bytes(log.encode() + b"\xff\n")
    return stack.home


def make(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS"}}
    environment |= {"PIPELINE_HOME": str(home), "PYTHONIOENCODING": "utf-8", **variables}
    # The tests' own Python runs the commands: what is installed is not what they are about.
    command = ["make", "-s", "-o", "install", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dag",), "Which DAG? For example: make dag DAG=pinterest_daily_batch"),
        (("dag", "DAG="), "Which DAG? For example: make dag DAG=pinterest_daily_batch"),
        (("dag", "DAG=-h"), "Airflow does not answer at "),
        (("dag", "DAG=--conf=x"), "Airflow does not answer at "),
        (("dag", "DAG=a b'\"\n;true"), "Airflow does not answer at "),
        (("dag", "DAG=a", "CONF=-h"), "CONF is not JSON: "),
        (("dag", "DAG=a", "CONF=" + "[" * 20_000), "CONF is nested too deeply."),
        (("dag", "DAG=a", 'CONF={"posts": 1, "posts": 2}'), "CONF names 'posts' more than once."),
        (("dag", "DAG=a", 'CONF={"$HOME": 1, "$HOME": 2}'), "CONF names '$HOME' more than once."),
        (("logs",), "SERVICE=: choose one of kafka"),
        (("logs", "SERVICE=--help"), "SERVICE=--help: choose one of kafka"),
        (("logs", "SERVICE=../../etc/passwd"), "SERVICE=../../etc/passwd: choose one of kafka"),
        (("logs", "SERVICE=\x1b[2J$(HOME)`id`"), r"SERVICE=\x1b[2J$(HOME)`id`: choose one of kafka"),
        (("demo", "POSTS="), "POSTS= is not a whole number. POSTS is one from 1 to 1,000,000."),
        (("demo", "POSTS=--help"), "POSTS=--help is not a whole number. POSTS is one from 1 to 1,000,000."),
        (("demo", "POSTS=" + "9" * 5000), "at most 1,000,000 is possible."),
        (("demo", "SEED=1e3"), "SEED=1e3 is not a whole number."),
        (("demo", "SEED=$(shell echo 7)"), "SEED=$(shell echo 7) is not a whole number."),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(
    home: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = make(home, *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "usage:" not in done.stdout + done.stderr


@pytest.mark.parametrize("offset", ["٣", "1e3", "9" * 5000, "\x1b[2J", "1_000"])
def test_an_offset_of_the_ports_that_is_no_number_is_refused(tmp_path: Path, offset: str) -> None:
    done = make(tmp_path / "new", "demo", f"PORT_OFFSET={offset}")
    assert done.returncode != 0
    assert "PORT_OFFSET=" in done.stderr
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not settings.exists(tmp_path / "new")


def test_a_log_is_shown_without_its_colours_and_commands_no_terminal(home: Path) -> None:
    done = make(home, "logs", "SERVICE=kafka")
    assert done.stdout.splitlines() == [
        f"==> {home}/log/kafka.log",
        "first green",
        r"second \x1b]0;title\x07\x9b2J\u202e é end",
        "third",
        r"\xff",
    ]


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONIOENCODING": ""}]
)
def test_no_encoding_of_the_terminal_ends_a_command(home: Path, variables: dict[str, str]) -> None:
    for command in (("logs", "SERVICE=kafka"), ("status",), ("env",), ("logs", "SERVICE=é→")):
        done = make(home, *command, **variables)
        assert "Traceback" not in done.stderr, command


def test_the_environment_is_told_as_a_shell_needs_it(tmp_path: Path) -> None:
    stack = settings.load_or_create(tmp_path / "home")
    settings.write_private(stack.source_url_file, "sqlite:////tmp/a\u00a0b.db")
    assert "SOURCE_URL='sqlite:////tmp/a\u00a0b.db'" in make(stack.home, "env").stdout.splitlines()


def test_a_secret_with_a_dollar_sign_reaches_the_command_whole() -> None:
    """make expands what it finds in a variable, a password too."""
    value = "mysql+pymysql://reader:pa$word$(HOME)$$@db/posts"
    show = 'show:\n\t@printf %s "$$SOURCE"\n'
    for arguments, variables in (((f"SOURCE={value}",), {}), ((), {"SOURCE": value})):
        done = subprocess.run(
            ["make", "-s", "-f", "Makefile", "-f", "-", "show", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables},
            input=show,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == value
