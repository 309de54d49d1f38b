"""The settings of a deployment: mwaa.toml, which holds no secret. mwaa/example.toml shows them with their defaults."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from mwaa.errors import SettingError

# In the order in which they are deployed: each uses what those before it have put out, and what costs much comes late,
# so that the others have shown by then what the account refuses. The api is deployed again once there is a proxy.
PARTS = (
    "storage",
    "roles",
    "streams",
    "network",
    "api",
    "secrets",
    "databricks",
    "source",
    "kafka",
    "proxy",
    "connect",
    "alarms",
    "environment",
)


@dataclass(frozen=True)
class Settings:
    """One deployment; names as in mwaa.toml. Numbers of bytes are GiB, times are hours or days where the name says so.

    :param name: what the names of stacks, roles, buckets and the MWAA environment begin with.
    :param region: where it all lies.
    :param prefix: first part of the names of topics, streams and tables.
    :param data_bucket: empty: NAME-data-ACCOUNT.
    :param mwaa_bucket: empty: NAME-mwaa-ACCOUNT.
    :param parts: which templates to deploy; all, unless what they make exists already (see ``given``).
    :param given: parameters of templates whose part is not deployed, such as subnets of a network that exists.
    :param offline: the environment has no way out: requirements come as wheels inside plugins.zip.
    :param notebook_dir: workspace folder of the notebooks.
    :param compute: where the batch notebooks run, as the setting of that name in docs/data.md; empty: a job cluster
        of one worker with the deployment's instance profile.
    :param stream_compute: the same for the stream notebook; empty: one of two workers.
    :param secret_scope: Databricks secret scope with AWS keys for the streams.
    :param service_credential: Unity Catalog's service credential for the streams; without it and ``secret_scope``: the
        instance profile.
    :param parameters: further parameters of the templates, by their names there.
    """

    name: str = "pinterest"
    region: str = "us-east-1"
    prefix: str = "pinterest"
    data_bucket: str = ""
    mwaa_bucket: str = ""
    parts: tuple[str, ...] = PARTS
    given: dict[str, str] = field(default_factory=dict)
    offline: bool = False
    notebook_dir: str = "/Shared/pinterest"
    storage: str = ""
    catalog: str = ""
    schema: str = "pinterest"
    compute: dict[str, Any] = field(default_factory=dict)
    stream_compute: dict[str, Any] = field(default_factory=dict)
    secret_scope: str = ""
    service_credential: str = ""
    parameters: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, pattern, wanted in (
            # Names of buckets begin with it (63 characters, with -data- and the account's 12 digits).
            ("name", r"[a-z][a-z0-9-]{0,30}[a-z0-9]", "2 to 32 lower-case letters, digits and hyphens"),
            ("region", r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region such as us-east-1"),
            ("prefix", r"[A-Za-z0-9][A-Za-z0-9_]{0,63}", "letters, digits and underscores"),
            ("data_bucket", r"|[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a bucket"),
            ("mwaa_bucket", r"|[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a bucket"),
            ("notebook_dir", r"/\S+", "a workspace folder that starts with /"),
            ("storage", r"|(s3a?:/|dbfs:|)/[^\s@:?]+", "s3://bucket or a path, without a login"),
        ):
            value = getattr(self, name)
            if not re.fullmatch(pattern, value):
                shown = "what may hold credentials" if re.search("[@:?]", value) else repr(value)
                raise SettingError(f"mwaa.toml: {name} is {shown}; wanted: {wanted}.")
        if self.secret_scope and self.service_credential:
            raise SettingError("mwaa.toml: secret_scope and service_credential exclude each other; give one.")
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise SettingError(f"mwaa.toml: parts: {unknown[0]!r} is none of {', '.join(PARTS)}.")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read mwaa.toml.

        :raises SettingError: it is missing, no TOML, or something in it is not a setting.
        """
        try:
            given = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise SettingError(f"There is no {path}. Start with: cp mwaa/example.toml {path}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingError(f"{path} is not TOML: {error}") from None
        except RecursionError:
            raise SettingError(f"{path} is nested too deeply.") from None
        except OSError as error:
            raise SettingError(f"{path} cannot be read: {error.strerror}.") from None
        return cls.of(given)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        """Make settings of what a file says, each value of its type."""
        values: dict[str, Any] = {}
        known = {each.name: each for each in fields(cls)}
        for name, value in given.items():
            if name not in known:
                raise SettingError(f"mwaa.toml: there is no setting {name!r}; there are {', '.join(known)}.")
            default = getattr(cls(), name)
            wanted = list if isinstance(default, tuple) else type(default)
            if not isinstance(value, wanted):
                raise SettingError(f"mwaa.toml: {name} is {value!r}; wanted: {_kind(wanted)}.")
            values[name] = _in_order(value) if wanted is list else value
        for name in ("given", "parameters"):
            if name in values:
                values[name] = {key: _text(key, value) for key, value in values[name].items()}
        return cls(**values)

    def stack(self, part: str) -> str:
        """Name of a part's CloudFormation stack."""
        return f"{self.name}-{part}"

    def values(self, account: str) -> dict[str, str]:
        """Parameters of the templates as far as settings say them; ``parameters`` and ``given`` come last and win."""
        compute = {"aws_attributes": {"instance_profile_arn": "${DatabricksProfileArn}"}}
        cluster = {
            "spark_version": "18.x-scala2.13",
            # dedicated access mode: Unity Catalog, and the streams' foreachBatch
            "data_security_mode": "SINGLE_USER",
            "node_type_id": "m5d.large",
            "num_workers": 1,
            # of 100 compiled plans, which is what Spark keeps unless told otherwise, a MERGE alone takes 30
            "spark_conf": {"spark.sql.codegen.cache.maxEntries": "2000"},
            **compute,
        }
        # Databricks' Kinesis source keeps a slot of a worker busy for each stream
        stream_cluster = {**cluster, "num_workers": 2}
        return {
            "Name": self.name,
            "Prefix": self.prefix,
            "DataBucketName": self.data_bucket or f"{self.name}-data-{account}",
            "MwaaBucketName": self.mwaa_bucket or f"{self.name}-mwaa-{account}",
            "NotebookDir": self.notebook_dir,
            "Storage": self.storage,
            "Catalog": self.catalog,
            "Schema": self.schema,
            "SecretScope": self.secret_scope,
            "ServiceCredential": self.service_credential,
            "ExternalSource": "false" if "source" in self.parts else "true",
            "Compute": json.dumps(self.compute or {"new_cluster": cluster}),
            "StreamCompute": json.dumps(self.stream_compute or {"new_cluster": stream_cluster}),
            **self.given,
            **self.parameters,
        }


def _in_order(parts: list[Any]) -> tuple[Any, ...]:
    """Return parts in the order in which they are deployed, whatever a file's is."""
    return tuple(sorted(parts, key=lambda part: PARTS.index(part) if part in PARTS else -1))


def _kind(kind: type) -> str:
    return {str: "text", bool: "true or false", list: "a list", dict: "a table"}.get(kind, kind.__name__)


def _text(name: str, value: Any) -> str:
    """A template's parameter is text, whatever TOML makes of it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    if isinstance(value, str | int | float):
        return str(value)
    raise SettingError(f"mwaa.toml: {name} is {value!r}; wanted: text, a number, true, false or a list.")


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names are the nearest to one that is not known."""
    return f"Nearest: {', '.join(difflib.get_close_matches(name, sorted(known), 3, 0))}."
