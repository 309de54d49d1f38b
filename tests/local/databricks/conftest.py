"""One workspace with real Spark drivers for all tests here, and AWS behind it, driven through databricks-sdk."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from databricks.sdk import WorkspaceClient
from databricks.sdk.service import compute, jobs
from databricks.sdk.service.workspace import ImportFormat

ROOT = Path(__file__).parents[3]
TOKEN = "dapi-the-token-of-the-tests"
WARM = "local-warm"
NEW_CLUSTER = compute.ClusterSpec(spark_version="18.x-scala2.13", num_workers=0)


class Part:
    """A started process that says on stderr where it serves."""

    def __init__(self, python: Path | str, module: str, config: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [str(python), "-m", module, str(config)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
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

    def stop(self, signal_: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signal_)
        return self.process.wait(120)


@dataclass
class Ended:
    """A run with one task that is over."""

    run: Any
    result: str
    error: str
    trace: str
    printed: str

    @property
    def state(self) -> str:
        return str(self.run.state.result_state.value)


class Lab:
    """The workspace, the folders it works on, and short ways to run notebooks in it."""

    def __init__(
        self, folder: Path, s3_endpoint_url: str, environment: dict[str, str], **settings: Any
    ) -> None:
        self.home = folder / "databricks"
        self.warehouse = folder / "warehouse"
        self._environment = environment
        self._config = folder / "databricks.json"
        self._config.touch(mode=0o600)
        self._config.write_text(
            json.dumps({
                "host": "127.0.0.1",
                "port": 0,
                "token": TOKEN,
                "home": str(self.home),
                "warehouse": str(self.warehouse),
                "jars": [str(ROOT / ".jars" / "spark")],
                "s3_endpoint_url": s3_endpoint_url,
                "region": "us-east-1",
                "cluster_id": WARM,
                "driver_memory": "1g",
                **settings,
            })
        )
        self.start_server()

    def start_server(self) -> None:
        self.server = Part(sys.executable, "local.databricks", self._config, self._environment)
        self.client: Any = WorkspaceClient(host=self.server.url, token=TOKEN)

    def upload(self, path: str, source: str) -> str:
        """Puts a notebook or a module there, as deployments do, and returns the path without its suffix."""
        self.client.workspace.mkdirs(path.rpartition("/")[0])
        content = textwrap.dedent(source).lstrip("\n").encode()
        self.client.workspace.upload(path, io.BytesIO(content), format=ImportFormat.AUTO, overwrite=True)
        return path.removesuffix(".py")

    def notebook(self, path: str, *cells: str) -> str:
        """Puts a Python notebook of these cells there."""
        parts = [textwrap.dedent(cell).strip("\n") for cell in cells]
        source = "# Databricks notebook source\n" + "\n\n# COMMAND ----------\n\n".join(parts) + "\n"
        return self.upload(f"/Shared/test/{path}.py", source)

    def start(self, path: str, parameters: dict[str, str] | None = None, **fields: Any) -> int:
        """Submits a run of one notebook, on the warm cluster unless told otherwise."""
        if "new_cluster" not in fields:
            fields["existing_cluster_id"] = WARM
        notebook_task = jobs.NotebookTask(notebook_path=path, base_parameters=parameters)
        task = jobs.SubmitTask(task_key="main", notebook_task=notebook_task, **fields)
        return int(self.client.jobs.submit(run_name="test", tasks=[task]).run_id)

    def run(self, path: str, parameters: dict[str, str] | None = None, **fields: Any) -> Ended:
        return self.ended(self.start(path, parameters, **fields))

    def ended(self, run_id: int) -> Ended:
        """Waits until a run is over."""
        self.wait(
            lambda: self.life_cycle(run_id) in ("TERMINATED", "INTERNAL_ERROR", "SKIPPED"), "the run to end"
        )
        run = self.client.jobs.get_run(run_id)
        task_run_id = run.tasks[0].run_id
        output = self.client.jobs.get_run_output(task_run_id)
        log = self.home / "runs" / f"{task_run_id}.log"
        result = (output.notebook_output and output.notebook_output.result) or ""
        printed = log.read_text() if log.exists() else ""
        return Ended(run, result, output.error or "", output.error_trace or "", printed)

    def life_cycle(self, run_id: int) -> str:
        return str(self.client.jobs.get_run(run_id).state.life_cycle_state.value)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 400) -> Any:
        """Returns the condition's first true value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.05)
        pytest.fail(f"waited {seconds} s for {what}\n{''.join(self.server.log[-40:])}")

    def printed_by(self, run_id: int) -> str:
        """What a run has printed so far."""
        log = self.home / "runs" / f"{self.client.jobs.get_run(run_id).tasks[0].run_id}.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture(scope="session")
def aws_part(
    aws_config: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Part]:
    """The AWS stand-in, which lives in the other environment and checks every signature."""
    config = tmp_path_factory.mktemp("aws-part") / "aws.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps(aws_config()))
    part = Part(ROOT / ".venv/airflow/bin/python", "local.aws", config, {})
    yield part
    part.stop()


@pytest.fixture(scope="session")
def aws_client(aws_part: Part, key: Credentials) -> Callable[[str], Any]:
    """boto3 clients of the stand-in."""

    make: Any = boto3.client

    def client(service: str) -> Any:
        return make(
            service,
            endpoint_url=aws_part.url,
            region_name="us-east-1",
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret_key,
        )

    return client


@pytest.fixture(scope="session")
def lab(aws_part: Part, key: Credentials, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The workspace of all tests."""
    folder = tmp_path_factory.mktemp("lab")
    credentials = folder / "credentials"
    credentials.touch(mode=0o600)
    credentials.write_text(
        f"[default]\naws_access_key_id = {key.access_key}\naws_secret_access_key = {key.secret_key}\n"
    )
    lab = Lab(folder, aws_part.url, {"AWS_SHARED_CREDENTIALS_FILE": str(credentials)}, legacy_features=True)
    yield lab
    assert lab.server.stop() == 0


@pytest.fixture(scope="session")
def s3(aws_client: Callable[[str], Any]) -> Any:
    """S3 with one bucket named ``lab-bucket``."""
    client = aws_client("s3")
    client.create_bucket(Bucket="lab-bucket")
    return client
