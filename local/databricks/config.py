"""The settings of the stand-in: one JSON file, written by the stack, that only its owner can read."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ConfigError(Exception):
    """The configuration cannot be used; the text is one line that says what to change."""


@dataclass(frozen=True)
class Config:
    """Where the workspace listens, what it keeps where, and how its drivers reach S3.

    ``home`` holds all state: notebooks, secrets, runs, and the root of ``dbfs:/``. ``warehouse`` holds the
    tables. AWS credentials are not here: drivers read them from the file AWS_SHARED_CREDENTIALS_FILE names,
    as a cluster gets them from its instance profile.
    """

    host: str
    port: int
    token: str = field(repr=False)
    home: Path
    warehouse: Path
    jars: tuple[Path, ...]
    s3_endpoint_url: str
    region: str
    cluster_id: str
    driver_memory: str

    @classmethod
    def load(cls, path: Path) -> Config:
        """Reads and checks the file. Raises ConfigError."""
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ConfigError(f"{path}: is not JSON ({error})") from None
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}: must hold one JSON object")
        try:
            config = cls(
                host=_text(settings, "host", "127.0.0.1"),
                port=_port(settings),
                token=_text(settings, "token"),
                home=Path(_text(settings, "home")).absolute(),
                warehouse=Path(_text(settings, "warehouse")).absolute(),
                jars=_jars(settings),
                s3_endpoint_url=_text(settings, "s3_endpoint_url", ""),
                region=_text(settings, "region", "us-east-1"),
                cluster_id=_text(settings, "cluster_id", "local-warm"),
                driver_memory=_text(settings, "driver_memory", "1g"),
            )
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        if not _is_loopback(config.host):
            raise ConfigError(f"{path}: host {config.host!r} is not a loopback address; use 127.0.0.1")
        return config


def _text(settings: dict[str, Any], key: str, default: str | None = None) -> str:
    value = settings.get(key, default)
    if value is None or (value == "" and default != ""):
        raise ConfigError(f"{key!r} is missing")
    if not isinstance(value, str):
        raise ConfigError(f"{key!r} must be a string, not {value!r}")
    return value


def _port(settings: dict[str, Any]) -> int:
    port = settings.get("port")
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigError(f"'port' must be a number from 0 to 65535, not {port!r}")
    return port


def _jars(settings: dict[str, Any]) -> tuple[Path, ...]:
    folders = settings.get("jars")
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ConfigError("'jars' must be a list of folders")
    jars = tuple(jar for folder in folders for jar in sorted(Path(folder).absolute().glob("*.jar")))
    if not any(jar.name.startswith("delta-spark") for jar in jars):
        raise ConfigError(
            f"no delta-spark jar in {folders}; Maven copies it there, see local/databricks/pom.xml"
        )
    return jars


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
