"""Python environments and packages by pip, as MWAA does it; what pip says goes to a log."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from mwaa.errors import PackageError

AIRFLOW_VERSION = "3.3.1"
CONSTRAINTS = Path(__file__).parent / f"constraints-{AIRFLOW_VERSION}.txt"
PROXY_PINS = Path(__file__).parent / "rest_proxy-pins.txt"
# What MWAA's image has before requirements.txt: its own list, without what only its queues and logs need to be compiled
# for (psycopg2, pycurl).
IMAGE = (
    f"apache-airflow[celery,statsd]=={AIRFLOW_VERSION}",
    "apache-airflow-providers-amazon[aiobotocore]",
    "watchtower",
)
# MWAA's machines and those of the REST proxy, whatever this machine is.
PLATFORM = (
    "--only-binary=:all:",
    "--python-version=3.12",
    "--implementation=cp",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",
    "--platform=linux_x86_64",
)
# What differs from one install to the next and is of no use to a machine.
TRACES = (
    "bin",
    "*.dist-info/RECORD",
    "*.dist-info/INSTALLER",
    "*.dist-info/REQUESTED",
    "*.dist-info/direct_url.json",
)


class Environment:
    """A fresh virtual environment.

    :param folder: where it is made; what was there before is removed.
    :param log: file that what pip says is written to.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        if sys.version_info[:2] != (3, 12):
            raise PackageError("MWAA runs Python 3.12, so this has to run in 3.12 too: make package")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("")
        self.python = folder / "bin" / "python"
        self._log = log
        _run([sys.executable, "-m", "venv", str(folder)], log, 300, "make a virtual environment")

    def install(self, *arguments: str, seconds: float = 1800) -> float:
        """Install with pip; return how many seconds it took.

        :raises PackageError: it failed, or took longer.
        """
        start = time.monotonic()
        self._pip("install", *arguments, seconds=seconds)
        return time.monotonic() - start

    def freeze(self) -> dict[str, str]:
        """Return name -> version of what is installed."""
        done = subprocess.run(
            [str(self.python), "-m", "pip", "list", "--format=freeze"],
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)

    def _pip(self, *arguments: str, seconds: float) -> None:
        command = [str(self.python), "-m", "pip", *arguments, "--disable-pip-version-check", "--no-input"]
        _run(command, self._log, seconds, f"pip {arguments[0]}")

    def download(self, folder: Path, *requirements: str) -> None:
        """Download wheels for MWAA's machines, these requirements and nothing that they need."""
        self._pip("download", "--no-deps", "--dest", str(folder), *PLATFORM, *requirements, seconds=1800)

    def install_aside(self, folder: Path, *arguments: str) -> None:
        """Install for MWAA's machines into a folder of its own."""
        self._pip(
            "install",
            "--no-deps",
            "--no-compile",
            "--target",
            str(folder),
            *PLATFORM,
            *arguments,
            seconds=1800,
        )


def image(folder: Path, log: Path) -> Environment:
    """Make a fresh environment with what MWAA's image has, before requirements.txt."""
    made = Environment(folder, log)
    made.install("--constraint", str(CONSTRAINTS), *IMAGE)
    return made


def requirement_wheels(cache: Path, requirements: Path) -> Path:
    """Return a folder with wheels of all that requirements.txt adds to MWAA's image, once for each state of it.

    :param cache: where it is kept.
    """
    state = requirements.read_bytes() + CONSTRAINTS.read_bytes()
    folder = cache / f"wheels-{hashlib.sha256(state).hexdigest()[:16]}"
    if folder.exists():
        return folder
    made = image(cache / "wheels-image", cache / "wheels.log")
    before = made.freeze()
    made.install("--constraint", str(CONSTRAINTS), "-r", str(requirements))
    added = [f"{name}=={version}" for name, version in made.freeze().items() if name not in before]
    # What is asked for by name has to be found, even if the image has it.
    asked = {name.lower() for name in requirement_names(requirements.read_text("utf-8"))}
    added += [f"{name}=={version}" for name, version in before.items() if name.lower() in asked]
    unfinished = folder.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    made.download(unfinished, *added)
    unfinished.rename(folder)
    return folder


def requirement_names(text: str) -> list[str]:
    """Return the names of the packages in a requirements.txt."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [re.split(r"[\[=<>!~; ]", line)[0] for line in lines if line and not line.startswith("-")]


def _run(command: list[str], log: Path, seconds: float, what: str) -> None:
    with log.open("ab") as output:
        try:
            done = subprocess.run(command, stdout=output, stderr=output, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise PackageError(f"Took longer than {seconds:.0f} s: {what}. Log: {log}") from None
    if done.returncode:
        lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["?"])[-1])
        raise PackageError(f"Could not {what}: {reason.removeprefix('ERROR: ')} Log: {log}")


def proxy_packages(cache: Path) -> Path:
    """Return a folder with the REST proxy's packages, installed once for each state of its pins.

    A machine that starts must not depend on a package registry, so they travel in its archive.

    :param cache: where it is kept.
    """
    folder = cache / f"rest_proxy-{hashlib.sha256(PROXY_PINS.read_bytes()).hexdigest()[:16]}"
    if folder.exists():
        return folder
    environment = Environment(cache / "pip", cache / "rest_proxy.log")
    unfinished = folder.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    environment.install_aside(unfinished, "-r", str(PROXY_PINS))
    for pattern in TRACES:
        for path in list(unfinished.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    unfinished.rename(folder)
    return folder
