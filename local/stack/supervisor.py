"""supervisord for one stack: its configuration, its processes started by readiness, and their end.

supervisord restarts what dies, with a growing pause, and keeps one log a part. It does not know readiness, so
nothing starts by itself: `start` starts each part once everything it needs answers.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil

from local.stack.errors import StackError
from local.stack.settings import HOST, ROOT, Stack, write_private

MARKER = "PINTEREST_STACK_ID"
RUNNING, STARTING, BACKOFF, FATAL = "RUNNING", "STARTING", "BACKOFF", "FATAL"
ENDED = {"STOPPED", "EXITED", FATAL}


@dataclass(frozen=True)
class Part:
    """One process of the stack.

    :param command: the program and its arguments; no secret among them.
    :param ready: asks the part itself; true once it answers.
    :param after: the parts that must be ready before this one starts.
    :param ports: names of the ports that it listens on.
    :param ready_seconds: how long it may take from its start until it answers.
    """

    name: str
    command: Sequence[str]
    ready: Callable[[], bool]
    after: Sequence[str] = ()
    ports: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    ready_seconds: float = 300


class _SocketTransport(xmlrpc.client.Transport):
    """XML-RPC over supervisord's Unix socket, which only the owner can open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(str(self.path))
        return connection


class Supervisor:
    """The supervisord of one stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.socket = stack.run / "supervisor.sock"
        self.pid_file = stack.run / "supervisord.pid"

    @property
    def rpc(self) -> Any:
        server = xmlrpc.client.ServerProxy("http://localhost", transport=_SocketTransport(self.socket))
        return server.supervisor

    def alive(self) -> bool:
        try:
            return cast("str", self.rpc.getState()["statename"]) == "RUNNING"
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False

    def states(self) -> dict[str, dict[str, Any]]:
        """Part -> supervisord's facts (statename, pid, start, exitstatus …); empty when supervisord is not running."""
        try:
            return {info["name"]: info for info in self.rpc.getAllProcessInfo()}
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return {}

    def launch(self, parts: Sequence[Part]) -> None:
        """Start supervisord itself, with none of its parts running yet."""
        if self.alive():
            return
        if len(str(self.socket)) > 100:
            raise StackError(
                f"The path {self.socket} is too long for a Unix socket. Choose a shorter PIPELINE_HOME."
            )
        self.stack.run.mkdir(parents=True, exist_ok=True)
        self.stack.log.mkdir(parents=True, exist_ok=True)
        configuration = self.stack.etc / "supervisord.conf"
        write_private(configuration, self._configuration(parts))
        environment = {**_clean_environment(), MARKER: self.stack.stack_id}
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        started = subprocess.run(
            command, env=environment, cwd=ROOT, umask=0o077, capture_output=True, text=True
        )
        if started.returncode:
            reason = (started.stderr or started.stdout).strip().splitlines()[-1:]
            raise StackError(
                f"supervisord did not start: {' '.join(reason)} (log: {self.stack.log}/supervisord.log)"
            )
        await_that(self.alive, 60, f"supervisord does not answer. Log: {self.stack.log}/supervisord.log")

    def _configuration(self, parts: Sequence[Part]) -> str:
        log = self.stack.log
        lines = [
            "[unix_http_server]", f"file={self.socket}", "chmod=0600", "",
            "[supervisord]", f"logfile={log}/supervisord.log", f"pidfile={self.pid_file}",
            f"childlogdir={log}", f"directory={ROOT}", "umask=077", "silent=true", "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface", "",
        ]  # fmt: skip
        for part in parts:
            # % starts an expansion in supervisord's files.
            variables = ",".join(f'{k}="{v}"' for k, v in part.environment.items())
            lines += [
                f"[program:{part.name}]", f"command={shlex.join(part.command)}".replace("%", "%%"),
                f"environment={variables}".replace("%", "%%"), "autostart=false", "autorestart=true", "startsecs=1",
                "startretries=5", "stopwaitsecs=60", "stopasgroup=true", "killasgroup=true",
                "redirect_stderr=true", f"stdout_logfile={log}/{part.name}.log",
                "stdout_logfile_maxbytes=20MB", "stdout_logfile_backups=1", "",
            ]  # fmt: skip
        return "\n".join(lines)

    def start(self, parts: Sequence[Part], say: Callable[[str], None]) -> None:
        """Start every part that is not running, each as soon as what it needs answers; wait until all answer.

        :raises StackError: a port is taken, a part ends, or a part does not answer in time; it names the log.
        """
        states = self.states()
        self._check_ports([part for part in parts if states.get(part.name, {}).get("statename") != RUNNING])
        waiting, started, ready = list(parts), dict[str, float](), set[str]()
        while waiting or started:
            for part in [part for part in waiting if ready.issuperset(part.after)]:
                waiting.remove(part)
                self._start_one(part)
                started[part.name] = time.monotonic()
            for part in [part for part in parts if part.name in started]:
                seconds = time.monotonic() - started[part.name]
                if self._answers(part, seconds):
                    del started[part.name]
                    ready.add(part.name)
                    say(f"  {part.name:<21} ready in {seconds:.1f} s")
            if started:
                time.sleep(0.2)

    def _start_one(self, part: Part) -> None:
        try:
            self.rpc.startProcess(part.name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise StackError(
                    f"{part.name} cannot be started: {fault.faultString}. {self._log_of(part)}"
                ) from None

    def _answers(self, part: Part, seconds: float) -> bool:
        state = self.states().get(part.name, {})
        if state.get("statename") in {FATAL, BACKOFF} and seconds > 1:
            self.rpc.stopProcess(part.name) if state["statename"] == BACKOFF else None
            raise StackError(
                f"{part.name} ended as it started: {self._last_line(part)}\n{self._log_of(part)}"
            )
        if state.get("statename") == RUNNING and part.ready():
            return True
        if seconds > part.ready_seconds:
            raise StackError(
                f"{part.name} has not answered for {part.ready_seconds:.0f} s. {self._log_of(part)}"
            )
        return False

    def _log_of(self, part: Part) -> str:
        return f"Log: {self.stack.log}/{part.name}.log (make logs SERVICE={part.name})"

    def _last_line(self, part: Part) -> str:
        try:
            lines = (self.stack.log / f"{part.name}.log").read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return "it wrote no log"
        return lines[-1] if lines else "it wrote no log"

    def _check_ports(self, parts: Sequence[Part]) -> None:
        busy = [
            (part.name, self.stack.ports[name]) for part in parts for name in part.ports if self._taken(name)
        ]
        if busy:
            listed = ", ".join(f"{port} ({name}{_holder(port)})" for name, port in busy)
            raise StackError(
                f"These ports are taken by other programs: {listed}.\n"
                "End those programs, or make a stack with other ports: make reset, then make up PORT_OFFSET=1000\n"
                f"(supervisord's log: {self.stack.log}/supervisord.log)"
            )

    def _taken(self, port_name: str) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, self.stack.ports[port_name]))
            except OSError:
                return True
        return False

    def shut_down(self, parts: Sequence[Part], say: Callable[[str], None]) -> int:
        """End the parts, supervisord, and whatever those started. Returns how many processes were ended.

        Everything a stack starts carries its id in the environment, so that orphans of a killed supervisord are
        found too, and nothing else is.
        """
        own = self.processes()
        if self.alive():
            self._stop(parts)
            supervisord = psutil.Process(int(self.rpc.getPID()))
            self.rpc.shutdown()
            psutil.wait_procs([supervisord], timeout=60)
        for process in self.processes():
            _quietly(process.terminate)
        _, left = psutil.wait_procs(self.processes(), timeout=10)
        for process in left:
            say(f"  {process.pid} did not end when asked: killed")
            _quietly(process.kill)
        psutil.wait_procs(left, timeout=5)
        self.socket.unlink(missing_ok=True)
        return len(own)

    def _stop(self, parts: Sequence[Part]) -> None:
        """Stop each part once nothing that needs it runs any more: Connect, say, cannot end without Kafka."""
        asked: set[str] = set()
        while True:
            states = self.states()
            left = [p for p in parts if states.get(p.name, {}).get("statename") not in {None, *ENDED}]
            if not left:
                return
            needed = {name for part in left for name in part.after}
            for part in left:
                if part.name not in needed | asked:
                    asked.add(part.name)
                    with contextlib.suppress(xmlrpc.client.Fault):  # it has ended by itself just now
                        self.rpc.stopProcess(part.name, False)
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Every process of this stack, orphans included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARKER) == self.stack.stack_id and process.pid != os.getpid():
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


def await_that(condition: Callable[[], bool], seconds: float, message: str) -> None:
    """Ask until the condition holds.

    :raises StackError: it did not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise StackError(message)
        time.sleep(0.2)


def _clean_environment() -> dict[str, str]:
    """The caller's environment without what would point a part at another account, workspace or Airflow."""
    foreign = (
        "AIRFLOW_",
        "AWS_",
        "DATABRICKS_",
        "SPARK_",
        "SOURCE",
        "PYTHONPATH",
        "PYTHONHOME",
        "MAKE",
        "MFLAGS",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def _quietly(action: Callable[[], Any]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        action()


def _holder(port: int) -> str:
    for connection in psutil.net_connections("inet"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            try:
                return f", held by pid {connection.pid} {psutil.Process(connection.pid).name()}"
            except psutil.Error:
                return f", held by pid {connection.pid}"
    return ""
