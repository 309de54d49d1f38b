"""Settings with which the proxy cannot start are one clear line and a failing exit status."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from msk.rest_proxy import config
from msk.rest_proxy.msk_iam import MskIamTokens
from tests.msk.conftest import run_proxy

OPEN = {"host": "127.0.0.1", "port": 0, "bootstrap_servers": "127.0.0.1:1"}
PLAIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
IAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "AWS_MSK_IAM"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rest_proxy.json"
    path.touch(0o600)
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**OPEN, "prot": 1}, "unknown field `prot`"),
        ({"host": "127.0.0.1"}, "missing required field `port`"),
        ({**OPEN, "port": 70000}, "$.port"),
        ({**OPEN, **PLAIN}, "needs sasl_username and sasl_password"),
        ({**OPEN, "security_protocol": "SASL_SSL"}, "disagree"),
        ({**OPEN, "sasl_mechanism": "PLAIN"}, "disagree"),
        ({**OPEN, **IAM}, "a region"),
        ({**OPEN, "topics": []}, "topics is empty"),
        ({**OPEN, "topics": ["pin", "_connect-config"]}, "_connect-config is not served"),
        ({**OPEN, "basic_auth_username": "gateway"}, "go together"),
    ],
)
def test_unusable_settings_are_named(path: Path, settings: dict[str, Any], message: str) -> None:
    path.write_text(json.dumps(settings))
    with pytest.raises(config.ConfigError) as error:
        config.load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_settings_others_can_read_are_refused(path: Path) -> None:
    path.write_text(json.dumps(OPEN))
    path.chmod(0o644)
    with pytest.raises(config.ConfigError, match="chmod 600"):
        config.load(path)


def test_msk_iam_logs_in_with_a_signed_token(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(json.dumps({**OPEN, **IAM, "region": "us-east-1"}))
    settings = config.load(path).kafka_client_settings()
    assert settings["sasl_mechanism"] == "OAUTHBEARER"
    assert settings["ssl_context"].check_hostname
    assert isinstance(settings["sasl_oauth_token_provider"], MskIamTokens)


async def test_the_token_is_signed_for_the_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    token = await MskIamTokens("eu-west-1").token()
    assert len(token) > 200
    assert token != await MskIamTokens("us-east-1").token()


def test_a_config_shows_no_password(path: Path) -> None:
    path.write_text(
        json.dumps({**OPEN, **PLAIN, "sasl_username": "pinterest", "sasl_password": "secret-one"})
    )
    assert "secret-one" not in repr(config.load(path))


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_file_ends_in_one_line(path: Path, text: str) -> None:
    path.write_text(text)
    ended = run_proxy(path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"msk.rest_proxy: {path}: ")
    assert len(ended.stderr.splitlines()) == 1


def test_a_missing_file_and_a_busy_port_end_in_one_line(path: Path) -> None:
    path.unlink()
    missing = run_proxy(path)
    assert missing.returncode == 1
    assert missing.stderr == f"msk.rest_proxy: {path} cannot be read: No such file or directory\n"
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        path.touch(0o600)
        path.write_text(json.dumps({**OPEN, "port": port}))
        ended = run_proxy(path)
    assert ended.returncode == 1
    assert ended.stderr == f"msk.rest_proxy: cannot listen on 127.0.0.1:{port}: Address already in use\n"
