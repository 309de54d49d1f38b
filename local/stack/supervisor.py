"""supervisord for one stack: its configuration, its processes started by readiness, and their end.

supervisord restarts what dies, with a growing pause, and keeps one log a part. It does not know readiness, so
nothing starts by itself: `start` starts each part once everything it needs answers. local.stack.reaper, its parent,
keeps all processes together.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psutil

from local.stack.errors import StackError
from local.stack.processes import MARKER, of_stack
from local.stack.settings import HOST, ROOT, Stack, write_private

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
        """Start supervisord itself, with none of its parts running yet.

        :raises StackError: a port is taken, processes of this stack run without their supervisord, or it does not
            start.
        """
        if self.alive():
            return
        if len(os.fsencode(self.socket)) > 100:
            raise StackError(
                f"The path {self.socket} is too long for a Unix socket. Choose a shorter PIPELINE_HOME."
            )
        if left := self.processes():
            raise StackError(
                f"{len(left)} processes of this stack still run, but its supervisord does not answer. "
                "End them: make down"
            )
        self.check_ports(parts)
        self.stack.run.mkdir(parents=True, exist_ok=True)
        self.stack.log.mkdir(parents=True, exist_ok=True)
        write_private(self.stack.etc / "supervisord.conf", self._configuration(parts))
        # With SPT_NOENV setproctitle writes over no environment: the mark stays.
        environment = {**_clean_environment(), MARKER: self.stack.stack_id, "SPT_NOENV": "1"}
        command = [sys.executable, "-m", "local.stack.reaper", f"{self.stack.etc}/"]
        said = self.stack.log / "supervisord-start.log"
        with said.open("wb") as output:
            reaper = subprocess.Popen(
                command, env=environment, cwd=ROOT, umask=0o077, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        await_that(
            lambda: self.alive() or reaper.poll() is not None,
            60,
            f"supervisord does not answer. Log: {self.stack.log}/supervisord.log",
        )
        if reaper.poll() is not None:
            reason = [
                line for line in said.read_text("utf-8", "replace").splitlines() if "For help" not in line
            ]
            raise StackError(f"supervisord did not start: {' '.join(reason[-1:])} (log: {said})")

    def _configuration(self, parts: Sequence[Part]) -> str:
        log = self.stack.log
        lines = [
            "[unix_http_server]", f"file={self.socket}", "chmod=0600", "",
            "[supervisord]", f"logfile={log}/supervisord.log", f"pidfile={self.pid_file}",
            f"childlogdir={log}", f"directory={ROOT}", "umask=077", "silent=true", "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface", "",
            "[rpcinterface:orphans]",
            "supervisor.rpcinterface_factory=local.stack.reaper:make_rpcinterface", "",
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
        with self.undone_on_failure(parts, say):
            self.check_ports([p for p in parts if states.get(p.name, {}).get("statename") != RUNNING])
            self._start_in_order(parts, say)

    def _start_in_order(self, parts: Sequence[Part], say: Callable[[str], None]) -> None:
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

    @contextlib.contextmanager
    def undone_on_failure(self, parts: Sequence[Part], say: Callable[[str], None]) -> Iterator[None]:
        """End what was started within the block if it raises; what ran before goes on.

        Ctrl-C leaves everything as it is.
        """
        running = {name for name, state in self.states().items() if state["statename"] not in ENDED}
        idle = not running and (self.alive() or not self.processes())
        try:
            yield
        except Exception:
            try:
                if idle:
                    self.shut_down(parts, say)
                else:
                    self._stop([part for part in parts if part.name not in running])
            except Exception as error:  # must not take the place of what went wrong first
                say(
                    f"  What was started could not be ended ({type(error).__name__}: {error}). Try: make down"
                )
            raise

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

    def check_ports(self, parts: Sequence[Part]) -> None:
        """Raise StackError, with the holders' names, if a port that these parts need is taken."""
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

        The reaper is not counted: it ends by itself, after all others.
        """
        own = self._without_reaper()
        if self.alive():
            self._stop(parts)
        # Told by a signal, not by its socket, which may have been deleted. Parts that run still are ended by it.
        supervisord = [process for process in own if _is_running_module(process, "supervisor.supervisord")]
        _end(supervisord, seconds=90)
        for process in _end(self._without_reaper(), seconds=10):
            say(f"  {process.pid} did not end when asked: killed")
            _quietly(process.kill)
        psutil.wait_procs(self.processes(), timeout=5)
        for process in self.processes():
            _quietly(process.kill)
        psutil.wait_procs(self.processes(), timeout=5)
        self.socket.unlink(missing_ok=True)
        return len(own)

    def _without_reaper(self) -> list[psutil.Process]:
        return [
            process for process in self.processes() if not _is_running_module(process, "local.stack.reaper")
        ]

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
        return of_stack(self.stack.home, self.stack.stack_id)


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


def _is_running_module(process: psutil.Process, module: str) -> bool:
    try:
        return bool(process.cmdline()[1:3] == ["-m", module])
    except psutil.Error:
        return False


def _end(processes: Sequence[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Ask processes to end; return those that have not after this time."""
    for process in processes:
        _quietly(process.terminate)
    return list(psutil.wait_procs(processes, timeout=seconds)[1])


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
