"""Which processes are a stack's, whatever they do to their name, environment, session or parent; and no others."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from local.stack.errors import StackError
from local.stack.processes import MARKER, of_stack
from local.stack.supervisor import Part, Supervisor, await_that

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
WITHOUT_ENVIRONMENT = ["env", "-i", "sleep", "600"]
TITLED = (
    "import time, setproctitle; "
    "setproctitle.setproctitle('airflow worker -- LocalExecutor: <idle>'); time.sleep(600)"
)
DISGUISES = {
    "a title over its environment": ["env", "-u", "SPT_NOENV", sys.executable, "-c", TITLED],
    "no environment": WITHOUT_ENVIRONMENT,
    "no environment in a session of its own": ["setsid", *WITHOUT_ENVIRONMENT],
}
WAITS_FOR_CHILD = (
    "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); print('up', flush=True); time.sleep(600)"
)
DEAF = (
    "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGTERM, signal.SIGINT)]; "
    "print('up', flush=True); time.sleep(600)"
)


def part(stack, *command, name="kafka"):
    """A part that is ready when its program has said so, or at once."""
    return Part(name, command, lambda: True)


def start(stack, *parts):
    supervisor = Supervisor(stack)
    supervisor.launch(parts)
    supervisor.start(parts, lambda line: None)
    return supervisor


def parent(stack, child, name="kafka"):
    log = stack.log / f"{name}.log"
    return Part(
        name,
        [sys.executable, "-c", WAITS_FOR_CHILD, *child],
        lambda: log.exists() and log.read_text().count("up") > 0,
    )


def children(supervisor, name="kafka"):
    return psutil.Process(supervisor.states()[name]["pid"]).children(recursive=True)


def disguised(supervisor):
    """The one child of the part, once it has become what it is to be."""
    await_that(
        lambda: [c for c in children(supervisor) if MARKER not in c.environ()], 20, "no child without a mark"
    )
    [child] = [child for child in children(supervisor) if MARKER not in child.environ()]
    return child


def kill_supervisord(supervisor):
    process = psutil.Process(int(supervisor.pid_file.read_text()))
    process.kill()
    await_that(lambda: not process.is_running() or process.status() == "zombie", 10, "it is not dead")


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_down_ends_a_disguised_process_whose_part_was_killed(stack, disguise):
    supervisor = start(stack, parent(stack, disguise))
    child = disguised(supervisor)
    os.kill(supervisor.states()["kafka"]["pid"], signal.SIGKILL)
    supervisor.shut_down([], print)
    assert not child.is_running()
    assert supervisor.processes() == []


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_down_ends_a_disguised_process_whose_supervisord_was_killed(stack, disguise):
    supervisor = start(stack, parent(stack, disguise))
    child = disguised(supervisor)
    part_itself = psutil.Process(supervisor.states()["kafka"]["pid"])
    kill_supervisord(supervisor)
    part_itself.kill()
    assert child in supervisor.processes()
    supervisor.shut_down([], print)
    assert not child.is_running()
    assert supervisor.processes() == []


def test_a_part_keeps_its_environment_when_it_sets_its_title(stack):
    """Found without any ancestor, then: supervisord and its parent were both killed."""
    supervisor = start(stack, part(stack, sys.executable, "-c", TITLED))
    process = psutil.Process(supervisor.states()["kafka"]["pid"])
    await_that(lambda: process.cmdline()[0].startswith("airflow worker"), 20, "it has no title")
    for each in process.parents()[:2]:
        each.kill()
    assert process in supervisor.processes()


def test_what_a_killed_part_leaves_behind_does_not_pile_up(stack):
    supervisor = start(stack, parent(stack, [sys.executable, "-c", DEAF]))
    left = []
    for _ in range(3):
        pid = supervisor.states()["kafka"]["pid"]
        await_that(lambda: len(children(supervisor)) == 1, 20, "the part has started no child")
        left += children(supervisor)
        os.kill(pid, signal.SIGKILL)
        await_that(
            lambda old=pid: supervisor.states()["kafka"]["pid"] not in {0, old}, 20, "it did not come back"
        )
    await_that(lambda: not any(process.is_running() for process in left), 20, "orphans were left")


def test_a_user_s_own_processes_are_never_the_stack_s(stack):
    start(stack, part(stack, *SLEEPS))
    log = stack.log / "kafka.log"
    log.touch()
    others = [
        subprocess.Popen(command, **options)
        for command, options in [
            (["tail", "-f", str(log)], {"stdout": subprocess.DEVNULL}),
            (["sleep", "600"], {"cwd": stack.home}),
            ([*SLEEPS, str(stack.etc / "supervisord.conf")], {}),
            ([*SLEEPS, "-c", f"{stack.etc}/server.properties"], {"cwd": stack.etc}),
            (SLEEPS, {"env": {**os.environ, MARKER: "another stack"}}),
            ([*SLEEPS, f"{stack.home}-two/etc/aws.json"], {"env": {**os.environ, MARKER: "another stack"}}),
            ([*SLEEPS, f"/elsewhere{stack.etc}/aws.json"], {"env": {**os.environ, MARKER: "another stack"}}),
            (SLEEPS, {"env": {**os.environ, "PIPELINE_HOME": str(stack.home)}}),
        ]
    ]
    try:
        assert {process.pid for process in Supervisor(stack).processes()}.isdisjoint(o.pid for o in others)
        Supervisor(stack).shut_down([], print)
        assert [other.poll() for other in others] == [None] * len(others)
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_a_stack_whose_files_are_gone_is_found_by_what_its_parts_were_started_with(stack):
    supervisor = start(
        stack, part(stack, *SLEEPS, str(stack.etc / "aws.json")), part(stack, *SLEEPS, name="connect")
    )
    pids = {supervisor.states()[name]["pid"] for name in ("kafka", "connect")}
    assert pids < {process.pid for process in of_stack(stack.home)}
    kill_supervisord(supervisor)
    assert pids < {process.pid for process in of_stack(stack.home)}


def test_no_second_supervisord_is_started_beside_what_runs(stack):
    supervisor = start(stack, part(stack, *SLEEPS))
    kill_supervisord(supervisor)
    with pytest.raises(
        StackError, match=r"still run, but its supervisord does not answer\. End them: make down"
    ):
        supervisor.launch([])
    assert supervisor.shut_down([], print) == 1


def test_a_supervisord_whose_socket_was_deleted_is_ended_in_order(stack):
    supervisor = start(stack, part(stack, *SLEEPS))
    supervisor.socket.unlink()
    with pytest.raises(StackError, match="End them: make down"):
        supervisor.launch([])
    assert supervisor.shut_down([], print) == 2
    assert supervisor.processes() == []
    assert "exit" in (stack.log / "supervisord.log").read_text()
