"""The two commands as a person runs them: real processes, a real HTTP server."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from include.emulation import user_posting_emulation

ROOT = Path(__file__).resolve().parents[3]
TOPICS, STREAMS = "user_posting_emulation", "user_posting_emulation_streaming"


@dataclass
class Api:
    url: str = ""
    records: dict[str, list[Any]] = field(default_factory=dict)
    before: Callable[[int], None] = lambda request: None
    status: int = 200
    requests: int = 0


@pytest.fixture
def api() -> Iterator[Api]:
    """Takes records for topics and streams, and keeps them by path."""
    api = Api()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            records = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["records"]
            api.requests += 1
            api.before(api.requests)
            kept = api.records.setdefault(self.path, [])
            first = len(kept)
            kept.extend(records)
            places = range(first, len(kept))
            answer: dict[str, Any] = {
                "offsets": [{"partition": 0, "offset": place} for place in places],
                "Records": [{"ShardId": "shard-0", "SequenceNumber": str(place)} for place in places],
                "message": "as the test wants it",
            }
            content = json.dumps(answer).encode()
            with suppress(ConnectionError):  # a test may have ended the command meanwhile
                self.send_response(api.status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_PUT = do_POST

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_port}/stage"
        yield api
        server.shutdown()
        thread.join()


def environment(**variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        **variables,
    }


def run(*command: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", [TOPICS, STREAMS])
def test_help_works_as_file_and_as_module(name: str, tmp_path: Path) -> None:
    as_file = run(f"include/emulation/{name}.py", "--help")
    as_module = run("-m", f"include.emulation.{name}", "--help")
    elsewhere = run(str(ROOT / f"include/emulation/{name}.py"), "--help", cwd=tmp_path)
    assert as_file.returncode == as_module.returncode == elsewhere.returncode == 0
    assert as_file.stdout == as_module.stdout == elsewhere.stdout
    for option in ("--api-url", "--source", "--prefix", "--posts", "--seed", "--order", "--rate", "--pace"):
        assert option in as_file.stdout


def test_posts_to_topics(api: Api, synthetic_source: str) -> None:
    done = run(
        f"include/emulation/{TOPICS}.py",
        *("--posts", "40", "--prefix", "mine", "--json"),
        SOURCE_URL=synthetic_source,
        API_GATEWAY_URL=api.url,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["tables"]["pin"] == {
        "drawn": 40,
        "missing": 0,
        "sent": 40,
        "acknowledged": 40,
        "failed": 0,
    }
    assert report["positions"]["mine.user"] == {"0": [[0, 39]]}
    sent = api.records["/stage/topics/mine.pin"]
    assert [record["key"] for record in sent[:3]] == [7528, 2863, 5730]
    assert sent[0]["value"]["index"] == 7528
    assert "acknowledged" in done.stderr


def test_posts_to_streams(api: Api, synthetic_source: str) -> None:
    done = run(
        *("-m", f"include.emulation.{STREAMS}", "--source", synthetic_source, "--api-url", api.url),
        *("--posts", "40", "--order", "sequential"),
    )
    assert done.returncode == 0, done.stderr
    sent = api.records["/stage/streams/streaming-pinterest-geo/records"]
    assert [record["partition-key"] for record in sent] == [str(number) for number in range(40)]
    assert json.loads(sent[7]["data"])["ind"] == 7
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["table", "drawn", "missing", "sent", "acknowledged", "failed"],
        ["pin", "40", "0", "40", "40", "0"],
        ["geo", "40", "0", "40", "40", "0"],
        ["user", "40", "0", "40", "40", "0"],
    ]


def test_records_that_fail_make_the_status(api: Api, synthetic_source: str) -> None:
    api.status = 404
    done = run("-m", f"include.emulation.{TOPICS}", "--source", synthetic_source, "--api-url", api.url)
    assert done.returncode == 1
    assert "pin 7528 failed: http_404: as the test wants it" in done.stdout
    assert "… and 1,490 more" in done.stdout


@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM])
def test_control_c_and_kill_report_what_was_acknowledged(
    api: Api, synthetic_source: str, kill: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", f"include.emulation.{TOPICS}", "--posts", "5000", "--json"],
        cwd=ROOT,
        env=environment(SOURCE_URL=synthetic_source, API_GATEWAY_URL=api.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background has them ignore Ctrl-C, and their children too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def interrupt(request: int) -> None:
        if request == 5:
            process.send_signal(kill)
            process.wait(120)

    api.before = interrupt
    out, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    tables = json.loads(out)["tables"]
    assert tables["pin"]["acknowledged"] == 500
    assert tables["geo"]["acknowledged"] == 500
    assert tables["user"]["failed"] == 500
    assert tables["pin"]["drawn"] == 500


def test_a_bad_value_in_the_middle_loses_no_account(api: Api, make_source: Any) -> None:
    url = make_source(range(700), range(700), range(700))

    def spoil(request: int) -> None:
        if request == 3:
            with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
                connection.execute("UPDATE user_data SET age = 'old' WHERE ind = 650")
            connection.close()

    api.before = spoil
    done = run(
        *("-m", f"include.emulation.{TOPICS}", "--posts", "700", "--order", "sequential", "--json"),
        SOURCE_URL=url,
        API_GATEWAY_URL=api.url,
    )
    assert done.returncode == 1
    assert "user_data.age of post 650 holds 'old', and a whole number is needed." in done.stderr
    assert json.loads(done.stdout)["tables"]["user"] == {
        **{"drawn": 500, "missing": 0, "sent": 500, "acknowledged": 500, "failed": 0},
    }


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--posts", "0"], 2, "at least 1 post"),
        (["--posts", "-3"], 2, "at least 1 post"),
        (["--posts", "many"], 2, "'many' is no number"),
        (["--posts", "1e3"], 2, "'1e3' is no number"),
        (["--posts", "٣"], 2, "'٣' is no number"),
        (["--posts", ""], 2, "'' is no number"),
        (["--posts", "\x1b[2J"], 2, r"'\x1b[2J' is no number"),
        (["--posts", "9" * 5000], 2, f"at most 1,000,000,000 posts, not {'9' * 39}…"),
        (["--seed", "1_000"], 2, "'1_000' is no number"),
        (["--seed", "9" * 5000], 2, "the seed is between -9,223,372,036,854,775,807 and 9,223"),
        (["--rate", "٣"], 2, "'٣' is no number"),
        (["--rate", "0"], 2, "above 0 posts a second"),
        (["--rate", "nan"], 2, "above 0 posts a second"),
        (["--rate", "5", "--pace", "classic"], 2, "not allowed with"),
        (["--order", "backwards"], 2, "invalid choice"),
        (["--prefix", "a/b"], 2, "may hold only"),
        (["--source", "nonsense"], 1, "no database URL"),
        (["--source", "sqlite:////no/such.db"], 1, "There is no database /no/such.db"),
        (["--source", ""], 2, "--source or SOURCE_URL"),
        (["--api-url", ""], 2, "--api-url or API_GATEWAY_URL"),
        (["--api-url", "nowhere"], 1, "address must look like"),
        (["--order", "sequential", "--posts", "11155"], 1, "has 11154 posts"),
    ],
)
def test_wrong_arguments_are_explained_before_anything_is_sent(
    api: Api,
    synthetic_source: str,
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    try:
        ended = user_posting_emulation.main(["--source", synthetic_source, "--api-url", api.url, *arguments])
    except SystemExit as end:  # how argparse leaves
        ended = end.code
    assert ended == status
    assert message in capsys.readouterr().err
    assert api.requests == 0


def test_missing_credentials_are_explained(api: Api, synthetic_source: str, tmp_path: Path) -> None:
    done = run(
        *("-m", f"include.emulation.{TOPICS}", "--source", synthetic_source, "--api-url", api.url),
        AWS_ACCESS_KEY_ID="",
        AWS_SECRET_ACCESS_KEY="",
        HOME=str(tmp_path),
    )
    assert done.returncode == 1
    assert "No AWS credentials found" in done.stderr
    assert api.requests == 0
