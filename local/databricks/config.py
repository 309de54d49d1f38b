"""The config file of ``python -m local.databricks``."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from local.databricks.access import Access
from local.part import StartError, read_config


@dataclass(frozen=True)
class Config:
    """Where the workspace listens, what it keeps where, and how its drivers reach S3.

    ``home`` holds all state: notebooks, secrets, runs, and the root of ``dbfs:/``. ``warehouse`` holds the
    tables. ``jars`` are folders of jars. ``driver_memory`` is the heap of each driver, like ``1g``. AWS credentials
    are not here: drivers read the file that AWS_SHARED_CREDENTIALS_FILE names, as a cluster has its instance profile.

    ``legacy_features`` are what workspaces made since the end of 2025 lack: the root of DBFS, mounts, and legacy access
    modes. ``access`` is what the one login may do.
    """

    host: str
    port: int
    token: str = field(repr=False)
    home: str
    warehouse: str
    jars: list[str]
    s3_endpoint_url: str
    region: str
    cluster_id: str
    driver_memory: str
    legacy_features: bool = False
    access: Access = field(default_factory=Access)

    @property
    def home_folder(self) -> Path:
        return Path(self.home).absolute()

    @property
    def warehouse_folder(self) -> Path:
        return Path(self.warehouse).absolute()

    def jar_files(self) -> list[str]:
        """All jars for the class path of a driver."""
        return [str(jar) for folder in self.jars for jar in sorted(Path(folder).absolute().glob("*.jar"))]


def load(path: str) -> Config:
    """Reads and checks the file. Raises StartError."""
    config = read_config(path, Config)
    try:
        loopback = ipaddress.ip_address(config.host).is_loopback
    except ValueError:
        loopback = config.host == "localhost"
    if not loopback:
        raise StartError(f"{path}: host: {config.host!r} is not a loopback address; use 127.0.0.1")
    if not config.token:
        raise StartError(f"{path}: token: must not be empty")
    if not any("delta-spark" in jar for jar in config.jar_files()):
        raise StartError(
            f"{path}: jars: no delta-spark jar in {config.jars}; local/databricks/pom.xml says how to get it"
        )
    return config
