"""AWS and Databricks of the laptop stack as the other side of a deployment, and deployments that talk to them."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from mwaa import package, proof
from mwaa.deployment import Deployment
from mwaa.settings import Settings

if "airflow" not in sys.modules:  # Airflow reads its home once, when it is imported
    _HOME = tempfile.TemporaryDirectory(prefix="airflow-")
    os.environ["AIRFLOW_HOME"] = _HOME.name

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"
ACCESS_KEY, SECRET_KEY, TOKEN = "AKIADEPLOYDEPLOYDEPL", "a-secret/with+signs", "dapi-token-of-these-tests"
SOURCE_URL = "mysql://reader:a-source-password@db.example:3306/posts"
SUPPORTED = ("storage", "roles", "streams", "api", "secrets", "databricks", "alarms")


class Part:
    """A part of the laptop stack that says on stderr where it serves."""

    def __init__(self, python: str, module: str, config: Path) -> None:
        self.process = subprocess.Popen(
            [python, "-m", module, str(config)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self.url = ""
        serving = threading.Event()

        def follow() -> None:
            assert self.process.stderr is not None
            for line in self.process.stderr:
                self.log.append(line)
                if not self.url and (found := re.search(r"serving .* on (http://127\.0\.0\.1:\d+)", line)):
                    self.url = found[1]
                    serving.set()
            serving.set()

        threading.Thread(target=follow, daemon=True).start()
        serving.wait(300)
        assert self.url, "".join(self.log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(120)


def _config(path: Path, content: dict[str, Any]) -> Path:
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def part() -> type[Part]:
    """Start a part of the laptop stack."""
    return Part


@pytest.fixture(scope="session")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The AWS stand-in."""
    folder = tmp_path_factory.mktemp("aws")
    config = {
        "host": "127.0.0.1",
        "port": 0,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        "region": REGION,
        "data_dir": str(folder / "data"),
        "kafkaconnect": {"connect_url": "http://127.0.0.1:9", "username": "a", "password": "b"},
    }
    part = Part(sys.executable, "local.aws", _config(folder / "config.json", config))
    # What an account has once, and a deployment asks for before it does anything.
    role = {"op": "replace", "path": "/cloudwatchRoleArn", "value": "arn:aws:iam::000000000000:role/logs"}
    gateway = boto3.client(
        "apigateway",
        REGION,
        endpoint_url=part.url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    gateway.update_account(patchOperations=[role])
    yield part.url
    part.stop()


@pytest.fixture(scope="session")
def workspace_url(tmp_path_factory: pytest.TempPathFactory, aws_url: str) -> Iterator[str]:
    """The workspace stand-in."""
    folder = tmp_path_factory.mktemp("databricks")
    config = {
        "host": "127.0.0.1",
        "port": 0,
        "token": TOKEN,
        "home": str(folder / "home"),
        "warehouse": str(folder / "warehouse"),
        "jars": [str(ROOT / ".jars" / "spark")],
        "s3_endpoint_url": aws_url,
        "region": REGION,
        "cluster_id": "none",
        "driver_memory": "1k",  # no heap to start with: these tests run no notebook, and pay for no driver
    }
    python = str(ROOT / ".venv" / "databricks" / "bin" / "python")
    part = Part(python, "local.databricks", _config(folder / "config.json", config))
    yield part.url
    part.stop()


@pytest.fixture(scope="session")
def environment(aws_url: str, workspace_url: str) -> dict[str, str]:
    """What a person's shell holds."""
    return {
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "DATABRICKS_HOST": workspace_url,
        "DATABRICKS_TOKEN": TOKEN,
        "PINTEREST_SOURCE_URL": SOURCE_URL,
    }


@pytest.fixture
def client(aws_url: str) -> Callable[[str], Any]:
    """Make a boto3 client of the AWS stand-in."""
    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    return lambda service, config=None: session.client(service, endpoint_url=aws_url, config=config)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefacts of the tree as it is."""
    target = tmp_path_factory.mktemp("built") / "mwaa"
    package.build(target)
    return target


@dataclass
class Person:
    """Somebody who deploys: what they were told, and what they answer."""

    answer: str = "yes"
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.told.append(text)

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return self.answer


@pytest.fixture
def somebody() -> type[Person]:
    """Makes a Person."""
    return Person


@pytest.fixture
def deployment(
    client: Callable[[str], Any],
    environment: dict[str, str],
    built: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Deployment]:
    """Make a deployment of what the stand-ins support, told by a Person."""
    for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN"):
        monkeypatch.setenv(name, environment[name])

    def make(person: Person, settings: Settings, files: Path = built) -> Deployment:
        return Deployment(settings, client, environment, files, person.say, person.ask)

    return make


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of a deployment that no other test shares."""
    name = "t" + re.sub(r"[^a-z0-9]", "", request.node.name.lower())[-20:]
    return Settings(name=name, prefix=name, parts=SUPPORTED, notebook_dir=f"/Shared/{name}")


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path, built: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `python -m mwaa ARGUMENTS` as a person does, with artefacts that have been proved."""
    proof.mark_proved(built)

    def start(
        settings: str, *arguments: str, program: Sequence[str] = ("-m", "mwaa"), **changes: str
    ) -> subprocess.Popen[str]:
        file = tmp_path / "mwaa.toml"
        file.write_text(settings)
        return subprocess.Popen(
            [sys.executable, *program, "--file", str(file), "--built", str(built), *arguments],
            cwd=ROOT,
            env={**os.environ, **environment, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    return start
