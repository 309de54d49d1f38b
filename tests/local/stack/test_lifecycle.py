"""make up, down, reset, demo and status on a stack of one small part: what fails, what was deleted, who waits."""

import json
import os
import shutil
import socket
import sys
import threading
from argparse import Namespace

import psutil
import pytest

from local import __main__ as commands
from local.stack import home as home_of_a_stack
from local.stack import parts, prepare, settings
from local.stack.errors import StackError
from local.stack.home import MARK, locked
from local.stack.processes import of_stack
from local.stack.supervisor import Part, Supervisor, await_that

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def made(monkeypatch):
    """The parts of the stack, which a test may change, and what was set up in them."""
    made = Namespace(
        parts=lambda stack: [Part("kafka", [*SLEEPS, str(stack.etc / "server.properties")], lambda: True)],
        broken=None,
    )

    def set_up(*_):
        if made.broken:
            raise made.broken

    monkeypatch.setattr(parts, "all_parts", lambda stack: made.parts(stack))
    for name in ("deploy_templates", "create_topics", "create_connector", "deploy_notebooks", "await_dags"):
        monkeypatch.setattr(prepare, name, set_up)
    monkeypatch.setattr(prepare, "before_start", lambda stack: None)
    return made


@pytest.fixture
def home(tmp_path, monkeypatch, made):
    monkeypatch.setenv("PIPELINE_HOME", str(tmp_path / "h"))
    monkeypatch.setenv("PORT_OFFSET", "auto")
    yield tmp_path / "h"
    shutil.rmtree(tmp_path / "h", ignore_errors=True)
    commands.down(Namespace())


def pids(home):
    return [process.pid for process in of_stack(home, settings.stack_id(home))]


def runs(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_up_down_up_reset(home, capsys):
    commands.up(Namespace())
    up = pids(home)
    commands.up(Namespace())
    assert f"The stack is up already ({home})." in capsys.readouterr().out
    assert pids(home) == up
    commands.down(Namespace())
    assert pids(home) == []
    commands.up(Namespace())
    commands.reset(Namespace())
    assert capsys.readouterr().out.endswith(f"Down: 2 processes ended.\nForgotten: {home}\n")
    assert not home.exists()


# -- what fails leaves nothing running


def listens(stack):
    program = (
        "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); "
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", program, str(stack.ports["kafka"])]
    return [Part("kafka", command, lambda: True, ports=("kafka",))]


def test_up_with_a_taken_port_leaves_nothing_running(home, made):
    stack = settings.load_or_create(home)
    made.parts = listens
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", stack.ports["kafka"]))
        holder.listen()
        with pytest.raises(StackError, match="These ports are taken"):
            commands.up(Namespace())
    assert pids(home) == []
    commands.up(Namespace())
    assert len(pids(home)) == 3


@pytest.mark.parametrize("ready_seconds", [60, 1], ids=["ends at once", "never answers"])
def test_up_with_a_part_that_does_not_start_leaves_nothing_running(home, made, ready_seconds):
    program = "raise SystemExit('no such setting')" if ready_seconds == 60 else SLEEPS[2]
    made.parts = lambda stack: [
        Part("kafka", SLEEPS, lambda: True),
        Part(
            "connect", [sys.executable, "-c", program], lambda: False, ("kafka",), ready_seconds=ready_seconds
        ),
    ]
    with pytest.raises(StackError, match=r"no such setting|has not answered for 1 s"):
        commands.up(Namespace())
    assert pids(home) == []


@pytest.mark.parametrize("error", [StackError("Airflow cannot read these files"), ConnectionError("reset")])
def test_up_that_fails_after_the_start_leaves_nothing_running(home, made, error):
    made.broken = error
    with pytest.raises(type(error), match=str(error)):
        commands.up(Namespace())
    assert pids(home) == []


def test_up_that_fails_ends_nothing_that_ran_before(home, made):
    commands.up(Namespace())
    before = pids(home)
    made.broken = StackError("Airflow cannot read these files")
    with pytest.raises(StackError, match="Airflow cannot read these files"):
        commands.up(Namespace())
    assert pids(home) == before


def test_up_that_fails_ends_the_parts_that_it_has_started_beside_others(home, made):
    def two(stack):
        return [
            Part("kafka", SLEEPS, lambda: True),
            Part("connect", SLEEPS, lambda: not made.broken, ready_seconds=1),
        ]

    made.parts = two
    commands.up(Namespace())
    supervisor = Supervisor(settings.load(home))
    pid = supervisor.states()["kafka"]["pid"]
    supervisor.rpc.stopProcess("connect")
    made.broken = True
    with pytest.raises(StackError, match="connect has not answered"):
        commands.up(Namespace())
    states = {name: (state["statename"], state["pid"]) for name, state in supervisor.states().items()}
    assert states == {"kafka": ("RUNNING", pid), "connect": ("STOPPED", 0)}


def test_what_goes_wrong_in_the_clean_up_does_not_hide_what_went_wrong_first(home, made, monkeypatch, capsys):
    made.broken = StackError("the first")
    with monkeypatch.context() as patched, pytest.raises(StackError, match="the first"):
        patched.setattr(Supervisor, "shut_down", lambda *_: 1 / 0)
        commands.up(Namespace())
    assert "What was started could not be ended (ZeroDivisionError: " in capsys.readouterr().out


def test_a_preparation_that_fails_is_told_with_the_last_line_of_its_log(home, tmp_path):
    stack = settings.load_or_create(home)
    program = "print('No space left on device\\n'); raise SystemExit(3)"
    with pytest.raises(StackError) as error:
        prepare._run_once(stack, "kafka-format", [sys.executable, "-c", program], dict(os.environ))
    assert str(error.value) == (
        f"kafka-format failed with status 3: No space left on device\nLog: {stack.log}/kafka-format.log"
    )


# -- what was deleted by hand


def test_a_stack_whose_folder_was_deleted_is_told_by_up_and_status_and_ended_by_down(home, capsys):
    commands.up(Namespace())
    up = pids(home)
    shutil.rmtree(home)
    for command in (commands.up, commands.status, commands.demo):
        with pytest.raises(
            StackError, match=rf"An older stack of {home} still runs \(3 processes\).*End it: make down"
        ):
            command(Namespace(posts="1", seed="1", source=""))
    assert pids(home) == up
    assert not home.exists()
    capsys.readouterr()
    commands.down(Namespace())
    assert capsys.readouterr().out == "Down: 2 processes ended.\n"
    assert [(p, p.status(), p.cmdline()) for p in psutil.process_iter() if p.pid in up and runs(p)] == []
    assert not home.exists()
    commands.down(Namespace())
    assert capsys.readouterr().out == f"There is no stack in {home}.\n"


def test_what_a_deleted_stack_makes_anew_as_it_ends_can_be_reset(home, made):
    program = (
        "import pathlib, signal, sys\n"
        "def end(*_): sys.exit(pathlib.Path(sys.argv[1]).mkdir(parents=True))\n"
        "signal.signal(signal.SIGTERM, end); pathlib.Path(sys.argv[2]).touch(); signal.pause()"
    )
    file = home.with_name("program.py")
    file.write_text(program)
    said = home.with_name("said")
    made.parts = lambda stack: [
        Part(
            "kafka",
            [sys.executable, str(file), str(home / "kafka"), str(said), str(stack.etc / "x")],
            said.exists,
        )
    ]
    commands.up(Namespace())
    shutil.rmtree(home)
    commands.down(Namespace())
    assert sorted(path.name for path in home.iterdir()) == [MARK, "kafka"]
    said.unlink()
    commands.up(Namespace())
    commands.reset(Namespace())
    assert pids(home) == []
    assert list(home.iterdir()) == []


def test_what_somebody_has_put_in_the_place_of_a_deleted_stack_is_nobody_else_s(home):
    commands.up(Namespace())
    shutil.rmtree(home)
    (home / "etc").mkdir(parents=True)
    (home / "my-thesis.txt").write_text("keep")
    commands.reset(Namespace())
    assert sorted(path.name for path in home.iterdir()) == ["etc", "my-thesis.txt"]
    with pytest.raises(StackError, match="no stack has made it"):
        commands.up(Namespace())
    shutil.rmtree(home)


def test_a_stack_whose_files_cannot_be_read_can_be_ended_and_reset(home):
    for content in ("{", "[]", json.dumps({"stack_id": "x"}), None):
        commands.up(Namespace())
        if content is None:
            (home / "etc" / "credentials.json").unlink()
        else:
            (home / "etc" / "stack.json").write_text(content)
        with pytest.raises(StackError, match=r"cannot be read .* make reset"):
            commands.up(Namespace())
        commands.reset(Namespace())
        assert not home.exists()


def test_reset_of_a_folder_without_a_stack_changes_nothing(home, capsys):
    home.mkdir()
    (home / "etc").mkdir()
    (home / "my-thesis.txt").write_text("keep")
    commands.reset(Namespace())
    assert sorted(path.name for path in home.iterdir()) == ["etc", "my-thesis.txt"]
    assert capsys.readouterr().out == f"There is no stack in {home}.\n"
    shutil.rmtree(home)


def test_reset_names_what_it_leaves_alone(home, capsys):
    commands.up(Namespace())
    (home / "my-thesis.txt").write_text("keep")
    commands.reset(Namespace())
    assert capsys.readouterr().out.endswith(
        f"Forgotten: {home}\nLeft alone, as the stack has not made it: my-thesis.txt\n"
    )
    assert (home / "my-thesis.txt").read_text() == "keep"


def test_status_after_a_kill_of_supervisord_says_what_still_runs(home, capsys):
    commands.up(Namespace())
    supervisord = psutil.Process(int(Supervisor(settings.load(home)).pid_file.read_text()))
    supervisord.kill()
    await_that(lambda: len(pids(home)) == 2, 10, "it is not dead")
    capsys.readouterr()
    assert commands.status(Namespace()) == 1
    assert "Its supervisord does not answer, and 2 processes of the stack still run: make down" in (
        capsys.readouterr().out
    )


def test_logs_before_anything_is_logged_says_how_to_start(home):
    settings.load_or_create(home)
    with pytest.raises(StackError, match=r"Nothing is logged in .* yet\. Start the stack: make up"):
        commands.logs(Namespace(service="kafka", lines="5"))


# -- one at a time


@pytest.mark.parametrize("name", ["up", "down", "reset", "demo"])
def test_every_command_that_changes_a_stack_waits_for_the_one_before_it(home, name, monkeypatch):
    settings.load_or_create(home)
    monkeypatch.setattr(commands, "run_demo", lambda *_, **__: said.append("done"))
    said, ended = [], threading.Event()
    monkeypatch.setattr(commands, "say", said.append)

    def run():
        getattr(commands, name)(Namespace(posts="1", seed="1", source=""))
        ended.set()

    with locked(home, pytest.fail):
        thread = threading.Thread(target=run)
        thread.start()
        await_that(lambda: said, 30, "it says nothing")
        assert len(said) == 1
        assert f"works on the stack in {home}; waiting for it." in said[0]
        assert not ended.is_set()
    thread.join(timeout=60)
    assert ended.is_set()
    assert len(said) > 1


def test_two_at_once_make_one_stack(home, capsys):
    threads = [threading.Thread(target=commands.up, args=(Namespace(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    said = capsys.readouterr().out
    assert said.count(f"Starting the stack in {home}") == 1
    assert said.count(f"The stack is up already ({home}).") == 1
    assert len(pids(home)) == 3


# -- a full disk


@pytest.mark.parametrize(
    "error", [StackError("kafka ended as it started"), ValueError("what?"), OSError(28, "No")]
)
def test_a_full_disk_is_told_beside_whatever_it_has_caused(home, monkeypatch, capsys, error):
    def fail(_):
        raise error

    before = os.umask(0o077)
    with monkeypatch.context() as patched:
        patched.setattr(home_of_a_stack, "full", lambda folder: f"No space left on device: {folder}.")
        patched.setattr(sys, "argv", ["local", "status"])
        patched.setattr(settings, "load", fail)
        assert commands.main() == 1
    os.umask(before)
    said = capsys.readouterr().err
    assert f"No space left on device: {home}." in said
    assert str(error.strerror if isinstance(error, OSError) else error) in said
