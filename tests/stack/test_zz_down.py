"""Last of all: down ends exactly what up started."""

import os
import re
import signal
import socket
from pathlib import Path

import psutil

from local.stack.supervisor import await_that


def test_down_leaves_no_process_and_no_listening_port(stack, env, processes):
    ports = [int(env["KAFKA_BOOTSTRAP"].rpartition(":")[2])]
    ports += [
        int(env[name].rpartition(":")[2].split("/")[0])
        for name in env
        if name.endswith("_URL") and "http" in env[name]
    ]
    assert processes(psutil.Process.name)
    stack.make("down")
    assert processes(psutil.Process.name) == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port
    assert "Nothing was running." in stack.make("down").stdout


def pid_of(stack, part):
    [line] = [
        line for line in stack.make("status", check=False).stdout.splitlines() if line.split()[0] == part
    ]
    found = re.search(r"\bpid (\d+),", line)
    return int(found[1]) if found else None


def workers(processes):
    """The scheduler's workers: what outlives it, under a title that has replaced name and environment."""
    named = processes(lambda process: (process, " ".join(process.cmdline())))
    return [process for process, name in named if name.startswith("airflow worker -- LocalExecutor")]


def test_down_after_kills_of_scheduler_and_supervisord_leaves_no_process(stack, env, processes):
    stack.make("up")
    seen = set()
    for _ in range(2):
        killed = pid_of(stack, "airflow-scheduler")
        await_that(lambda: len(workers(processes)) == 4, 60, "the scheduler has no workers")
        old = workers(processes)
        seen.update(processes(lambda process: process))
        os.kill(killed, signal.SIGKILL)
        await_that(
            lambda killed=killed: pid_of(stack, "airflow-scheduler") not in {None, killed}, 30, "it is gone"
        )
        await_that(
            lambda old=old: not any(process.is_running() for process in old), 30, "its workers are left"
        )
    await_that(lambda: len(workers(processes)) == 4, 60, "the scheduler has no workers")
    seen.update(processes(lambda process: process))
    os.kill(int((Path(env["PIPELINE_HOME"]) / "run" / "supervisord.pid").read_text()), signal.SIGKILL)
    refused = stack.make("up", check=False)
    assert refused.returncode != 0
    assert "still run, but its supervisord does not answer. End them: make down" in refused.stderr
    stack.make("down")
    assert [process for process in seen if process.is_running()] == []
    assert processes(psutil.Process.name) == []
