"""Parts of the laptop stack started as supervisord starts them, on free ports, and servers that stand in for others."""

import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import Credentials

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
REGION = "us-east-1"
KEY = Credentials("AKIALOCALLOCALLOCAL1", "a-secret/with+signs=of-base64")


@dataclass
class Running:
    """A started part: its address, and what it has logged."""

    url: str
    process: subprocess.Popen[str]
    log: list[str]


@dataclass
class Seen:
    """A request as a stub server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Stub:
    """A server whose answers a test chooses: `answer` makes one from each request, `seen` holds the requests."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    answer: Callable[[Seen], Answer] | None = None


@pytest.fixture(scope="session")
def key() -> Credentials:
    return KEY


@pytest.fixture(scope="session")
def start_part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Start `python -m MODULE CONFIG` and wait until it says where it serves; it ends with the session."""
    running: list[Running] = []

    def start(module: str, config: dict[str, Any]) -> Running:
        path = tmp_path_factory.mktemp("part") / "config.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(path)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        part = Running("", process, [])
        lines: queue.Queue[str | None] = queue.Queue()

        def follow() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                part.log.append(line)
                lines.put(line)
            lines.put(None)

        threading.Thread(target=follow, daemon=True).start()
        running.append(part)
        while (line := lines.get(timeout=300)) is not None:
            if found := ADDRESS.search(line):
                part.url = found[0]
                return part
        pytest.fail(f"{module} did not start: {''.join(part.log)}")

    yield start
    for part in running:
        part.process.terminate()
        part.process.wait(timeout=120)


@pytest.fixture(scope="session")
def aws_config(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A config for `local.aws` in a data folder of its own."""

    def config(**changes: Any) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": 0,
            "access_key_id": KEY.access_key,
            "secret_access_key": KEY.secret_key,
            "region": REGION,
            "data_dir": str(tmp_path_factory.mktemp("aws")),
            "kafkaconnect": {"connect_url": "http://127.0.0.1:9", "username": "admin", "password": "letmein"},
            **changes,
        }

    return config


@pytest.fixture(scope="session")
def aws(start_part: Callable[..., Running], aws_config: Callable[..., dict[str, Any]]) -> Running:
    """The AWS stand-in, one for all tests."""
    return start_part("local.aws", aws_config())


@pytest.fixture
def stub(stub_server: Stub) -> Stub:
    """A server that answers as the test says; its address is the same in every test."""
    stub_server.seen.clear()
    stub_server.answer = _nothing
    return stub_server


def _nothing(_: Seen) -> Answer:
    return 200, {}, b"{}"


@pytest.fixture(scope="session")
def stub_server() -> Iterator[Stub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    stub = Stub(f"http://127.0.0.1:{server.server_port}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.seen.append(Seen(self.command, self.path, headers, body))
            assert stub.answer is not None
            status, headers, content = stub.answer(stub.seen[-1])
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield stub
    server.shutdown()
    server.server_close()
