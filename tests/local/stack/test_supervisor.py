"""supervisord with small parts of our own: readiness, failures, and that nothing is left."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from local.stack import settings
from local.stack.errors import StackError
from local.stack.supervisor import MARKER, Part, Supervisor, await_that

LISTENS = (
    "import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); "
    "time.sleep(600)"
)


def accepts(port):
    def ready():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return ready


def listener(stack, name="kafka", **arguments):
    port = stack.ports[name]
    return Part(name, [sys.executable, "-c", LISTENS, str(port)], accepts(port), ports=(name,), **arguments)


def start(stack, *parts):
    supervisor, said = Supervisor(stack), []
    supervisor.launch(parts)
    supervisor.start(parts, said.append)
    return supervisor, said


def test_a_part_starts_after_what_it_needs(stack):
    first, second = listener(stack, "kafka"), listener(stack, "connect", after=("kafka",))
    supervisor, said = start(stack, second, first)
    assert [line.split()[0] for line in said] == ["kafka", "connect"]
    states = supervisor.states()
    assert {name: state["statename"] for name, state in states.items()} == {
        "kafka": "RUNNING",
        "connect": "RUNNING",
    }


def test_starting_twice_is_harmless(stack):
    supervisor, _ = start(stack, listener(stack))
    pid = supervisor.states()["kafka"]["pid"]
    start(stack, listener(stack))
    assert supervisor.states()["kafka"]["pid"] == pid


def test_a_killed_part_comes_back(stack):
    supervisor, _ = start(stack, listener(stack))
    os.kill(supervisor.states()["kafka"]["pid"], signal.SIGKILL)
    await_that(lambda: accepts(stack.ports["kafka"])(), 20, "it did not come back")


def test_a_part_that_ends_at_once_is_told_with_its_last_line_and_log(stack):
    part = Part(
        "kafka", [sys.executable, "-c", "print('no such setting: x'); raise SystemExit(3)"], lambda: False
    )
    with pytest.raises(
        StackError, match=r"(?s)kafka ended as it started: no such setting: x.*Log: .*kafka\.log"
    ):
        start(stack, part)


def test_a_part_that_never_answers_is_told(stack):
    part = Part(
        "kafka", [sys.executable, "-c", "import time; time.sleep(600)"], lambda: False, ready_seconds=2
    )
    with pytest.raises(StackError, match=r"kafka has not answered for 2 s\. Log: .*kafka\.log"):
        start(stack, part)


def test_a_busy_port_names_its_holder_and_the_way_out(stack):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", stack.ports["kafka"]))
        holder.listen()
        with pytest.raises(StackError) as error:
            start(stack, listener(stack))
    message = str(error.value)
    assert f"{stack.ports['kafka']} (kafka, held by pid {os.getpid()}" in message
    assert "PORT_OFFSET" in message
    assert "supervisord.log" in message


def test_down_ends_everything_that_a_part_started_and_nothing_else(stack):
    detached = (
        "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); "
        "print('started', flush=True); time.sleep(600)"
    )
    log = stack.log / "kafka.log"
    start(stack, Part("kafka", [sys.executable, "-c", detached], lambda: "started" in log.read_text()))
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, MARKER: "another stack"})
    try:
        assert Supervisor(stack).shut_down([], print) == 3
        assert Supervisor(stack).processes() == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_down_ends_a_part_before_what_it_needs(stack, tmp_path):
    said, program = tmp_path / "said", tmp_path / "connects.py"
    program.write_text(
        "import pathlib, signal, socket, sys\n"
        "def end(*_):\n"
        "    answered = socket.socket().connect_ex(('127.0.0.1', int(sys.argv[1]))) == 0\n"
        "    pathlib.Path(sys.argv[2]).write_text(str(answered)); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('waits', flush=True)\n"
        "while True: signal.pause()\n"
    )
    kafka = listener(stack, "kafka")
    log = stack.log / "connect.log"
    connect = Part(
        "connect",
        [sys.executable, str(program), str(stack.ports["kafka"]), str(said)],
        lambda: "waits" in log.read_text(),
        after=("kafka",),
    )
    supervisor, _ = start(stack, kafka, connect)
    supervisor.shut_down([kafka, connect], print)
    assert said.read_text() == "True"


def test_orphans_of_a_killed_supervisord_are_ended_too(stack):
    supervisor, _ = start(stack, listener(stack))
    psutil.Process(int(supervisor.pid_file.read_text())).kill()
    await_that(lambda: not supervisor.alive(), 10, "supervisord still answers")
    assert supervisor.shut_down([], print) >= 1
    assert supervisor.processes() == []
    assert not accepts(stack.ports["kafka"])()


def test_a_folder_too_deep_for_a_socket_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT_OFFSET", "auto")
    made = settings.load_or_create(tmp_path / ("deep" * 25))
    with pytest.raises(StackError, match="too long for a Unix socket"):
        Supervisor(made).launch([])


def test_the_callers_own_cloud_settings_do_not_reach_the_parts(stack, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "someone-elses")
    supervisor, _ = start(stack, listener(stack))
    environment = psutil.Process(supervisor.states()["kafka"]["pid"]).environ()
    assert "AWS_PROFILE" not in environment
    assert environment[MARKER] == stack.stack_id
