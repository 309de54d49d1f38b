"""The proxy's settings: one JSON file that only its owner can read."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from msk.rest_proxy.msk_iam import MskIamTokens

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
MIB = 1024 * 1024


class ConfigError(Exception):
    """The settings cannot be used; the message says which and why."""


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where to listen, which topics of which Kafka to write to, and the bounds.

    topics are the names that callers may use; ``*`` in a name stands for any text.
    sasl_mechanism AWS_MSK_IAM logs in with the machine's own AWS credentials and needs region. With
    basic_auth_username and basic_auth_password every call but the health check needs that login.
    """

    host: str
    port: Port
    bootstrap_servers: str
    topics: tuple[str, ...] = ("*",)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "AWS_MSK_IAM"] | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    region: str | None = None
    basic_auth_username: str | None = None
    basic_auth_password: str | None = None
    # Amazon API Gateway, which stands in front, takes 10 MB and waits 29 s.
    max_body_bytes: Positive = 10 * MIB
    max_buffered_bytes: Positive = 64 * MIB
    max_record_bytes: Positive = MIB
    request_timeout_seconds: Positive = 20

    def __repr__(self) -> str:
        """Leave the passwords out."""
        return f"Config({self.host}:{self.port} -> {self.bootstrap_servers})"

    def kafka_client_settings(self) -> dict[str, Any]:
        """Return the connection settings of an aiokafka client."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            settings["ssl_context"] = ssl.create_default_context()
        if self.sasl_mechanism == "AWS_MSK_IAM":
            assert self.region is not None
            settings["sasl_mechanism"] = "OAUTHBEARER"
            settings["sasl_oauth_token_provider"] = MskIamTokens(self.region)
        elif self.sasl_mechanism is not None:
            settings["sasl_mechanism"] = self.sasl_mechanism
            settings["sasl_plain_username"] = self.sasl_username
            settings["sasl_plain_password"] = self.sasl_password
        return settings


def load(path: Path) -> Config:
    """Read the settings; raise ConfigError in words of the file."""
    try:
        text = path.read_bytes()
        readable_by_others = path.stat().st_mode & 0o077
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if readable_by_others:
        raise ConfigError(f"{path} holds passwords and others may read it: chmod 600 {path}")
    try:
        config = msgspec.json.decode(text, type=Config)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error
    _check(config, path)
    return config


def _check(config: Config, path: Path) -> None:
    if not config.topics:
        raise ConfigError(f"{path}: topics is empty: name those that callers may write to")
    if own := [name for name in config.topics if name.startswith("_")]:
        raise ConfigError(
            f"{path}: topics: {own[0]} is not served: Kafka and Connect keep their own under such names"
        )
    needs_login = config.security_protocol.startswith("SASL")
    if needs_login != (config.sasl_mechanism is not None):
        raise ConfigError(f"{path}: security_protocol {config.security_protocol} and sasl_mechanism disagree")
    if config.sasl_mechanism == "AWS_MSK_IAM":
        if config.security_protocol != "SASL_SSL" or not config.region:
            raise ConfigError(
                f"{path}: sasl_mechanism AWS_MSK_IAM needs security_protocol SASL_SSL and a region"
            )
    elif needs_login and not (config.sasl_username and config.sasl_password):
        raise ConfigError(
            f"{path}: sasl_mechanism {config.sasl_mechanism} needs sasl_username and sasl_password"
        )
    if bool(config.basic_auth_username) != bool(config.basic_auth_password):
        raise ConfigError(f"{path}: basic_auth_username and basic_auth_password go together")
