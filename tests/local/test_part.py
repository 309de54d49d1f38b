"""What a part says when it cannot start."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from local.part import StartError, listen, read_config


@dataclass(frozen=True)
class Inner:
    url: str


@dataclass(frozen=True)
class Config:
    host: str
    port: int
    inner: Inner
    names: dict[str, str] | None = None


GOOD = {"host": "127.0.0.1", "port": 1, "inner": {"url": "u"}}


def written(folder: Path, content: object, mode: int = 0o600) -> Path:
    path = folder / "config.json"
    path.touch(mode=mode)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_config_is_read_into_its_dataclass(tmp_path: Path) -> None:
    assert read_config(written(tmp_path, GOOD), Config) == Config("127.0.0.1", 1, Inner("u"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ([], "must be a JSON object"),
        ({**GOOD, "prot": 1}, "unknown key prot; known are host, port, inner, names"),
        ({"host": "h"}, "lacks inner, port"),
        ({**GOOD, "port": "1"}, "port: must be int"),
        ({**GOOD, "port": True}, "port: must be int"),
        ({**GOOD, "inner": {}}, "inner: lacks url"),
        ({**GOOD, "names": 1}, "names: must be dict or NoneType"),
    ],
)
def test_a_bad_config_is_named_and_never_quoted(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match=message):
        read_config(written(tmp_path, content), Config)


def test_a_config_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="chmod 600"):
        read_config(written(tmp_path, GOOD, mode=0o644), Config)
    with pytest.raises(StartError, match="No such file"):
        read_config(tmp_path / "none", Config)


@pytest.mark.parametrize("module", ["local.aws", "local.api_gateway"])
def test_a_busy_port_is_one_line_and_a_status(module: str, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        common = {
            "host": "127.0.0.1",
            "port": port,
            "access_key_id": "a",
            "secret_access_key": "the-secret",
            "region": "us-east-1",
        }
        own = {
            "local.aws": {
                "data_dir": str(tmp_path / "data"),
                "kafkaconnect": {
                    "connect_url": "http://127.0.0.1:9",
                    "username": "u",
                    "password": "the-secret",
                },
            },
            "local.api_gateway": {
                "openapi": "mwaa/cloudformation/openapi.yaml",
                "stage": "test",
                "aws_endpoint_url": "http://127.0.0.1:9",
            },
        }[module]
        ended = subprocess.run(
            [sys.executable, "-m", module, str(written(tmp_path, {**common, **own}))],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert ended.returncode == 1
    assert ended.stderr == f"{module}: cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_part_takes_one_argument() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "local.aws"], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("usage: python -m local.aws CONFIG")
