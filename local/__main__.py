"""The commands behind the Makefile: python -m local COMMAND."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from include.emulation.terminal import accept_any_text, harmless_json, printable, printable_lines
from local.stack import home as home_of_a_stack
from local.stack import parts, prepare, settings
from local.stack.airflow_api import AirflowApi
from local.stack.configure import write_all
from local.stack.demo import NOT_AS_PUBLISHED, run_demo
from local.stack.errors import StackError
from local.stack.parameters import conf_of, whole_number
from local.stack.processes import of_stack
from local.stack.quarantine import show as show_quarantine
from local.stack.supervisor import RUNNING, Supervisor

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Programs colour their logs; the rest of what could command a terminal is shown as an escape."""


def say(text: str) -> None:
    """Print what a person reads; whatever it holds, no terminal obeys it."""
    print(printable_lines(text), flush=True)


def up(_: argparse.Namespace) -> int:
    home = settings.home_folder()
    refuse_beside_older(home)
    with home_of_a_stack.locked(home, say, make=True):
        stack = settings.load_or_create(home)
        start_stack(stack)
    say(f"Airflow: {stack.url('airflow')}  login: admin, password: make -s env | grep AIRFLOW_PASSWORD")
    return 0


def refuse_beside_older(home: Path) -> None:
    """Refuse to make a stack in a folder whose own was deleted while it was up.

    :raises StackError: processes of that stack still run.
    """
    if not settings.exists(home) and (left := of_stack(home)):
        raise StackError(
            f"An older stack of {home} still runs ({len(left)} processes), and its files are gone. "
            "End it: make down"
        )


def start_stack(stack: settings.Stack) -> None:
    """Start what does not run yet, wait until every part answers, and set up what they need.

    What this has started is ended again if any of it fails.
    """
    parts.check_installed()
    if why := home_of_a_stack.full(stack.home):
        raise StackError(why)
    supervisor, wanted = Supervisor(stack), parts.all_parts(stack)
    start = time.monotonic()
    with supervisor.undone_on_failure(wanted, say):
        states = supervisor.states()
        if all(states.get(part.name, {}).get("statename") == RUNNING and part.ready() for part in wanted):
            say(f"The stack is up already ({stack.home}).")
        else:
            say(f"Starting the stack in {stack.home}")
            write_all(stack)
            supervisor.launch(wanted)
            prepare.before_start(stack)
            supervisor.start(wanted, say)
        prepare.deploy_templates(stack)
        prepare.create_topics(stack)
        prepare.create_connector(stack)
        files = prepare.deploy_notebooks(stack)
        prepare.await_dags(AirflowApi(stack))
    say(
        f"Up in {time.monotonic() - start:.0f} s: bucket {stack.bucket}, connector {stack.connector}, "
        f"{files} notebook files"
    )


def down(_: argparse.Namespace) -> int:
    home = settings.home_folder()
    with home_of_a_stack.locked(home, say):
        return end_stack(home)


def end_stack(home: Path) -> int:
    """End what runs of the stack in a folder, even if its files are broken or gone."""
    try:
        stack = settings.load(home)
        ended = Supervisor(stack).shut_down(parts.all_parts(stack), say)
    except StackError:
        left = of_stack(home)
        if not left and not home_of_a_stack.is_stack(home):
            say(f"There is no stack in {home}.")
            return 0
        ended = Supervisor(settings.Stack(home, {}, {}, settings.stack_id(home))).shut_down([], say)
        if left:
            home_of_a_stack.mark_again(home)  # what it has made as it ended, reset and up may have
    say(f"Down: {ended} processes ended." if ended else "Nothing was running.")
    return 0


def reset(_: argparse.Namespace) -> int:
    home = settings.home_folder()
    with home_of_a_stack.locked(home, say):
        end_stack(home)
        if home_of_a_stack.is_stack(home):
            left = home_of_a_stack.forget(home)
            say(f"Forgotten: {home}")
            if left:
                say(f"Left alone, as the stack has not made it: {', '.join(left)}")
    return 0


def status(_: argparse.Namespace) -> int:
    """Print each part's state; the exit status is 0 only when all run and answer."""
    home = settings.home_folder()
    refuse_beside_older(home)
    stack = settings.load(home)
    supervisor = Supervisor(stack)
    states, all_ready = supervisor.states(), True
    for part in parts.all_parts(stack):
        info = states.get(part.name, {})
        ready = info.get("statename") == RUNNING and part.ready()
        all_ready &= ready
        address = " ".join(f"{settings.HOST}:{stack.ports[name]}" for name in part.ports) or "-"
        state = "ready" if ready else str(info.get("statename", "STOPPED")).lower()
        since = f"pid {info['pid']}, {_age(info['now'] - info['start'])}" if info.get("pid") else ""
        say(f"  {part.name:<21} {state:<9} {address:<31} {since}")
    if not states and (left := supervisor.processes()):
        say(f"Its supervisord does not answer, and {len(left)} processes of the stack still run: make down")
    return 0 if all_ready else 1


def _age(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def logs(arguments: argparse.Namespace) -> int:
    stack = settings.load(settings.home_folder())
    count = whole_number("--lines", arguments.lines, 1, 1_000_000)
    known = sorted(path.stem for path in stack.log.glob("*.log"))
    if not known:
        raise StackError(f"Nothing is logged in {stack.log} yet. Start the stack: make up")
    if arguments.service not in known:
        given = printable(arguments.service or "", 80)
        raise StackError(f"SERVICE={given}: choose one of {', '.join(known)}")
    path = stack.log / f"{arguments.service}.log"
    say(f"==> {path}")
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        for line in deque(lines, count):
            say(COLOUR.sub("", line.rstrip("\n")))
    return 0


def dag(arguments: argparse.Namespace) -> int:
    if not arguments.dag_id:
        raise StackError("Which DAG? For example: make dag DAG=pinterest_daily_batch")
    conf = conf_of(arguments.conf)
    return 0 if run_dag(settings.load(settings.home_folder()), arguments.dag_id, conf) == "success" else 1


def run_dag(stack: settings.Stack, dag_id: str, conf: dict[str, Any], *, by_data_since: str = "") -> str:
    """Run a DAG, or follow the run that new data have started; return how it has ended."""
    api = AirflowApi(stack)
    run_id = api.run_of_new_data(dag_id, by_data_since) if by_data_since else api.trigger(dag_id, conf)
    say(f"  {dag_id}  run {run_id}")
    start = time.monotonic()
    state = api.wait(dag_id, run_id, say)
    say(f"  {dag_id}  {state} in {time.monotonic() - start:.0f} s")
    if state != "success":
        say(api.failure(dag_id, run_id))
    return state


def answers(_: argparse.Namespace) -> int:
    stack = settings.load(settings.home_folder())
    sys.stdout.write(harmless_json(read_answers(stack), sys.stdout.encoding))
    return 0


def read_answers(stack: settings.Stack) -> str:
    """Return the text of answers/latest.json, which is JSON.

    :raises StackError: nothing is published, or something else.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        body = (
            prepare
            .aws_client(stack, "s3")
            .get_object(Bucket=stack.bucket, Key="answers/latest.json")["Body"]
            .read()
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in {"NoSuchKey", "NoSuchBucket"}:
            raise StackError(
                "Nothing is published yet. Run: make demo, or make dag DAG=pinterest_daily_batch"
            ) from None
        raise StackError(f"S3 refused: {error}") from None
    except BotoCoreError:
        raise StackError("S3 does not answer. Is the stack up? make status") from None
    try:
        text = str(body.decode("utf-8"))
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StackError(f"{NOT_AS_PUBLISHED} ({error})") from None
    return text


def quarantine(_: argparse.Namespace) -> int:
    stack = settings.load(settings.home_folder())
    show_quarantine(Path(stack.public()["LAKE_DIR"]), say)
    return 0


def env(_: argparse.Namespace) -> int:
    for name, value in settings.load(settings.home_folder()).public().items():
        print(f"{name}={shlex.quote(value)}")  # a URL's & would end the line where a shell reads it
    return 0


def demo(arguments: argparse.Namespace) -> int:
    home = settings.home_folder()
    refuse_beside_older(home)
    with home_of_a_stack.locked(home, say, make=True):
        return run_demo(
            arguments, start_stack=start_stack, run_dag=run_dag, read_answers=read_answers, say=say
        )


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="python -m local", description="The laptop stack; the Makefile calls this."
    )
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    for function in (up, down, status, reset, answers, quarantine, env):
        commands.add_parser(function.__name__).set_defaults(run=function)
    log_command = commands.add_parser("logs")
    log_command.add_argument("service", nargs="?")
    log_command.add_argument("--lines", default="60")
    log_command.set_defaults(run=logs)
    dag_command = commands.add_parser("dag")
    dag_command.add_argument("dag_id", nargs="?")
    dag_command.add_argument("--conf", default="{}")
    dag_command.set_defaults(run=dag)
    demo_command = commands.add_parser("demo")
    demo_command.add_argument("--posts", default="500")
    demo_command.add_argument("--seed", default="100")
    demo_command.add_argument("--source", default=os.environ.get("SOURCE", ""))
    demo_command.set_defaults(run=demo)
    return root


def main() -> int:
    os.umask(0o077)
    accept_any_text()
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except StackError as error:
        print(f"\n{printable_lines(error)}", file=sys.stderr)
        _print_if_full()
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The stack stays as it is: make status, make down", file=sys.stderr)
        return 130
    except OSError as error:
        reason = f"{error.strerror or error} ({error.filename or settings.home_folder()})"
        print(f"\n{printable_lines(reason)}", file=sys.stderr)
        _print_if_full()
        return 1
    except Exception as error:
        if not _print_if_full():
            raise
        print(printable_lines(f"({type(error).__name__}: {error})"), file=sys.stderr)
        return 1


def _print_if_full() -> bool:
    """Say so if the stack's file system is full, the cause of whatever else has failed; return whether it is."""
    try:
        why = home_of_a_stack.full(settings.home_folder())
    except (StackError, OSError):
        return False
    if why:
        print(f"\n{why}", file=sys.stderr)
    return bool(why)


if __name__ == "__main__":
    sys.exit(main())
