"""Proof before upload: the artefacts are laid out as MWAA lays them out, and each component is tried in that layout."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mwaa.environment import CONSTRAINTS, image, requirement_names
from mwaa.errors import PackageError
from mwaa.package import MWAA_PLUGINS, checksums
from mwaa.stacks import Say

LAYOUT = Path(__file__).parent / "layout"
COMPONENTS = ("web-server", "dag-processor", "triggerer", "worker")
# MWAA gives up after ten minutes; nine leave room for its slower machines.
INSTALL_SECONDS = 540


def prove(built: Path, python: Path, components: Sequence[str] = COMPONENTS) -> list[str]:
    """Try the artefacts in MWAA's layout; return what is wrong, one line each.

    :param built: folder of the artefacts, see :func:`mwaa.package.build`.
    :param python: interpreter of an environment with what MWAA has installed.
    :param components: which of MWAA's components to try.
    """
    wrong = requirements_problems((built / "requirements.txt").read_text("utf-8"))
    with tempfile.TemporaryDirectory(prefix="mwaa-") as folder:
        root = Path(folder)
        _stage(built, root)
        for component in components:
            wrong += [f"{component}: {line}" for line in _probe(component, python, root)]
    return wrong


def requirements_problems(text: str) -> list[str]:
    """Return what MWAA would misread in requirements.txt."""
    return [
        f"requirements.txt, line {number}: '{found[0].strip()}', even in a comment, switches MWAA's own pins off"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := re.search(r"-c |--constraint", line))
    ]


def _stage(built: Path, root: Path) -> None:
    """Lay the artefacts out below ``root`` as MWAA does below ``/``."""
    home = root / "usr" / "local" / "airflow"
    shutil.copytree(built / "dags", home / "dags")
    with zipfile.ZipFile(built / "plugins.zip") as archive:
        archive.extractall(home / "plugins")
    (home / "requirements").mkdir()
    shutil.copyfile(built / "requirements.txt", home / "requirements" / "requirements.txt")
    # PYTHONPATH is fixed at /python there, and nothing of ours is in it.
    shutil.copytree(LAYOUT, root / "python", ignore=shutil.ignore_patterns("probe.py", "__pycache__"))


def _probe(component: str, python: Path, root: Path) -> list[str]:
    home = root / "usr" / "local" / "airflow"
    dags = root / "no-dags" if component == "triggerer" else home / "dags"
    requirements = (home / "requirements" / "requirements.txt").read_text("utf-8")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(root),
        "PYTHONPATH": str(root / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(home / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__SECRETS__BACKEND": "recording_secrets.Recorder",
        # As environment.yaml sets them.
        "AIRFLOW__PINTEREST__BUCKET": "a-bucket",
        "AIRFLOW__PINTEREST__ALARM_TOPIC_ARN": "arn:aws:sns:us-east-1:000000000000:a-topic",
        "ASKED_FOR": str(root / "asked-for"),
        "REQUIREMENTS": ",".join(requirement_names(requirements)),
        # No credentials and no way to any: parsing must not need AWS.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    done = subprocess.run(
        [str(python), str(LAYOUT / "probe.py"), component],
        env=environment,
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    last = done.stdout.strip().splitlines()[-1:] or [""]
    try:
        found = json.loads(last[0])
    except json.JSONDecodeError:
        reason = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return [f"cannot be tried with {python}: {reason}"]
    return [str(line) for line in found]


def prove_fresh(built: Path, work: Path, say: Say) -> None:
    """Try the artefacts in an environment made for it: first with MWAA's image alone, then with requirements.txt.

    :param work: folder for the environment and its log.
    :raises PackageError: what MWAA would have refused.
    """
    say("proof: MWAA's image in a fresh environment (a minute or two)")
    environment = image(work / "mwaa-image", work / "mwaa-image.log")
    _check(prove(built, environment.python, ["web-server"]))
    say("proof: the web server without requirements.txt shows the page")
    with tempfile.TemporaryDirectory(prefix="mwaa-") as folder:
        requirements = Path(folder) / "requirements.txt"
        with zipfile.ZipFile(built / "plugins.zip") as archive:
            wheels = [name for name in archive.namelist() if name.startswith("wheels/")]
            archive.extractall(folder, wheels)
        text = (built / "requirements.txt").read_text("utf-8")
        requirements.write_text(text.replace(MWAA_PLUGINS, folder), "utf-8")
        seconds = environment.install(
            "--constraint", str(CONSTRAINTS), "-r", str(requirements), seconds=INSTALL_SECONDS
        )
    say(f"proof: requirements.txt installed in {seconds:.0f} s of the {INSTALL_SECONDS} that MWAA leaves")
    _check(prove(built, environment.python) + rest_proxy_problems(built))
    say(f"proof: {', '.join(COMPONENTS)} and the REST proxy run what was built")
    mark_proved(built)


def mark_proved(built: Path) -> None:
    """Remember that exactly these artefacts have been proved."""
    _proof_of(built).write_text(json.dumps(checksums(built)), "utf-8")


def is_proved(built: Path) -> bool:
    """Return whether exactly these artefacts have been proved."""
    try:
        return bool(json.loads(_proof_of(built).read_text("utf-8")) == checksums(built))
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _proof_of(built: Path) -> Path:
    return built.with_name(f"{built.name}-proved.json")


def rest_proxy_problems(built: Path) -> list[str]:
    """Start the REST proxy from its archive, as its machines do; return what is wrong."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return []  # the archive's packages are for the machines of the proxy
    with tempfile.TemporaryDirectory(prefix="rest-proxy-") as folder:
        with zipfile.ZipFile(built / "rest_proxy.zip") as archive:
            archive.extractall(folder)
        done = subprocess.run(
            [str(Path(sys.base_prefix) / "bin" / "python3.12"), "-m", "msk.rest_proxy", "--help"],
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{folder}:{folder}/packages"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
    if done.returncode:
        return [f"rest_proxy.zip does not start: {(done.stderr.strip().splitlines() or ['?'])[-1]}"]
    return []


def _check(wrong: Sequence[str]) -> None:
    if wrong:
        lines = "\n  ".join(dict.fromkeys(wrong))
        raise PackageError(f"MWAA would not run this. Nothing was uploaded.\n  {lines}")
