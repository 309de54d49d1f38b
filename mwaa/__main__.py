"""The commands of the way to AWS: python -m mwaa COMMAND."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from include.emulation.terminal import accept_any_text, printable_lines
from mwaa import checks, environment, package, proof, status
from mwaa.checks.report import Context
from mwaa.deployment import Deployment
from mwaa.errors import DeployError, SettingError, spoken
from mwaa.settings import Settings, nearest
from mwaa.stacks import check_names

BUILT = package.ROOT / "build" / "mwaa"
WORK = package.ROOT / "build" / "mwaa-work"
EPILOG = """\
A first deployment:   cp mwaa/example.toml mwaa.toml, then: check, package, diff, deploy
A change:             diff, deploy (uploads only what differs; asks first)
AWS credentials are found as the AWS CLI finds them (AWS_PROFILE, sso, ...), the workspace by DATABRICKS_HOST and
DATABRICKS_TOKEN. docs/operations.md has the whole way, with what each step prints and what it costs.
"""
YES = "do not ask; where data would be lost that is not enough, and nothing is done"
UNCHECKED = "do not check first (IAM's simulation may be wrong about your rights, for instance)"


def say(text: str) -> None:
    print(printable_lines(text), flush=True)


def build_package(arguments: argparse.Namespace) -> int:
    checksums = _build(arguments.offline)
    for name, checksum in checksums.items():
        say(f"{checksum[:16]}  {name}")
    say(f"{len(checksums)} files in {BUILT.relative_to(package.ROOT)}")
    proof.prove_fresh(BUILT, WORK, say)
    return 0


def _build(offline: bool) -> dict[str, str]:
    packages = environment.proxy_packages(WORK)
    wheels = environment.requirement_wheels(WORK, package.ROOT / "requirements.txt") if offline else None
    return package.build(BUILT, packages=packages, wheels=wheels)


def diff(arguments: argparse.Namespace) -> int:
    deployment = _deployment(arguments)
    with spoken():
        found = deployment.overview()
        deployment.drop(found)
    for line in found.lines():
        say(line)
    if not found:
        say("Nothing has changed.")
    return 0


def check(arguments: argparse.Namespace) -> int:
    deployment = _deployment(arguments, build=False)
    return 0 if _checked(deployment) else 1


def _checked(deployment: Deployment) -> bool:
    with spoken():
        return checks.run(Context(deployment, _clients(deployment.settings)), say)


def deploy(arguments: argparse.Namespace) -> int:
    deployment = _deployment(arguments)
    if not proof.is_proved(arguments.built or BUILT):
        command = "python -m mwaa package --offline" if deployment.settings.offline else "make package"
        raise DeployError(f"What would be deployed has not been proved in MWAA's layout. Run: {command}")
    if not arguments.unchecked and not _checked(deployment):
        raise DeployError("Nothing was created. See to what is MISSING, or deploy with --unchecked.")
    with spoken():
        deployment.deploy()
    return 0


def show_status(arguments: argparse.Namespace) -> int:
    deployment = _deployment(arguments)
    with spoken():
        return 0 if status.show(deployment, _clients(deployment.settings), say) else 1


def destroy(arguments: argparse.Namespace) -> int:
    deployment = _deployment(arguments, build=False)
    with spoken():
        deployment.destroy()
    return 0


def _deployment(arguments: argparse.Namespace, *, build: bool = True) -> Deployment:
    settings = Settings.read(arguments.file)
    check_names(settings)
    clients = _clients(settings)
    built = arguments.built
    if built is None:
        if build:
            _build(settings.offline)
    elif not (built / "plugins.zip").is_file():
        raise SettingError(
            f"{built} holds no artefacts: --built names a folder that the command package has made."
        )
    return Deployment(settings, clients, os.environ, built or BUILT, say, _asker(arguments))


def _clients(settings: Settings) -> Callable[[str], Any]:
    """Return what makes a boto3 client in the deployment's region."""
    with spoken():
        session = boto3.Session(region_name=settings.region)
        known = {
            region
            for partition in session.get_available_partitions()
            for region in session.get_available_regions("cloudformation", partition)
        }
    if settings.region not in known:
        raise SettingError(
            f"mwaa.toml: there is no AWS region {settings.region!r}. {nearest(settings.region, known)}"
        )
    return lambda service: session.client(service)  # type: ignore[call-overload]


def _asker(arguments: argparse.Namespace) -> Callable[[str], str]:
    def ask(question: str) -> str:
        answer: str | None = getattr(arguments, "answer", None)
        if answer is not None:
            return answer
        if not sys.stdin.isatty():
            raise DeployError("There is nobody to ask: deploy with --yes, or destroy with --confirm NAME.")
        try:
            return input(question)
        except EOFError:
            say("")
            return ""  # Ctrl-D is a no

    return ask


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="python -m mwaa",
        description="The way to MWAA, AWS and Databricks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "--file",
        type=Path,
        default=Path("mwaa.toml"),
        metavar="FILE",
        help="the deployment (default: mwaa.toml)",
    )
    made.add_argument(
        "--built",
        type=Path,
        metavar="FOLDER",
        help="artefacts that were built before, elsewhere perhaps (default: build them now, in build/mwaa/)",
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for run, name, text in (
        (build_package, "package", "build the artefacts in build/mwaa/ and prove them in MWAA's layout"),
        (diff, "diff", "show what a deployment would change, and change nothing"),
        (check, "check", "look at what can be known before anything is created, and create nothing"),
        (deploy, "deploy", "check, show what would change, ask, and do it; run it again after a failure"),
        (
            show_status,
            "status",
            "one screen: what runs and what does not (exit status 1 when something does not)",
        ),
        (destroy, "destroy", "list what holds data, ask for the deployment's name, and take everything away"),
    ):
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        if name == "package":
            command.add_argument(
                "--offline",
                action="store_true",
                help="put wheels into plugins.zip, for an environment without a way out (mwaa.toml: offline = true)",
            )
        if name == "deploy":
            command.add_argument("--yes", dest="answer", action="store_const", const="yes", help=YES)
            command.add_argument("--unchecked", action="store_true", help=UNCHECKED)
        if name == "destroy":
            command.add_argument(
                "--confirm", dest="answer", metavar="NAME", help="the deployment's name; do not ask"
            )
    return made


def main() -> int:
    accept_any_text()
    arguments = parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except DeployError as error:
        print(printable_lines(error), file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped. What AWS has begun goes on there; run this again to go on.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
