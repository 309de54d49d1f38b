"""What a cluster may be: the runtimes, machines and access modes that the workspace offers, and no other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.databricks import fields
from local.databricks.errors import ApiError

# Runtimes that are supported: those of long-term support. 18.0 to 18.2 are versions of their own, and out of support.
RUNTIMES = {
    "18.x-scala2.13": "18.x LTS (includes Apache Spark 4.1, Scala 2.13)",
    "17.3.x-scala2.13": "17.3 LTS (includes Apache Spark 4.0.0, Scala 2.13)",
    "16.4.x-scala2.13": "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.13)",
    "16.4.x-scala2.12": "16.4 LTS (includes Apache Spark 3.5.2, Scala 2.12)",
    "15.4.x-scala2.12": "15.4 LTS (includes Apache Spark 3.5.0, Scala 2.12)",
}
# GiB of memory and cores of each machine
NODE_TYPES = {
    "m5d.large": (8, 2),
    "m5d.xlarge": (16, 4),
    "m5d.2xlarge": (32, 8),
    "r5d.large": (16, 2),
    "i3.xlarge": (30, 4),
}
WITH_UNITY_CATALOG = (
    *("SINGLE_USER", "USER_ISOLATION"),
    *("DATA_SECURITY_MODE_AUTO", "DATA_SECURITY_MODE_DEDICATED", "DATA_SECURITY_MODE_STANDARD"),
)
_LEGACY_MODES = (
    *("NONE", "LEGACY_TABLE_ACL", "LEGACY_PASSTHROUGH"),
    *("LEGACY_SINGLE_USER", "LEGACY_SINGLE_USER_STANDARD"),
)
_COUNT = fields.whole(0, 100_000)
_OBJECT = fields.map_of(fields.anything)


def _runtime(value: Any, where: str) -> None:
    fields.text(value, where)
    if value not in RUNTIMES:
        raise ApiError("INVALID_PARAMETER_VALUE", f"Invalid spark version {value}.")


def _node_type(value: Any, where: str) -> None:
    fields.text(value, where)
    if value not in NODE_TYPES:
        raise ApiError("INVALID_PARAMETER_VALUE", f"Node type {value} is not supported.")


_KNOWN = {
    "apply_policy_default_values": fields.boolean,
    "autoscale": fields.record("max_workers", min_workers=_COUNT, max_workers=_COUNT),
    "autotermination_minutes": _COUNT,
    "aws_attributes": _OBJECT,
    "cluster_log_conf": _OBJECT,
    "cluster_name": fields.text,
    "custom_tags": fields.map_of(fields.text),
    "data_security_mode": fields.one_of(*WITH_UNITY_CATALOG, *_LEGACY_MODES),
    "docker_image": _OBJECT,
    "driver_instance_pool_id": fields.text,
    "driver_node_type_id": _node_type,
    "enable_elastic_disk": fields.boolean,
    "enable_local_disk_encryption": fields.boolean,
    "init_scripts": fields.list_of(_OBJECT),
    "instance_pool_id": fields.text,
    "is_single_node": fields.boolean,
    "kind": fields.one_of("CLASSIC_PREVIEW"),
    "node_type_id": _node_type,
    "num_workers": _COUNT,
    "policy_id": fields.text,
    "runtime_engine": fields.one_of("NULL", "STANDARD", "PHOTON"),
    "single_user_name": fields.text,
    "spark_conf": fields.map_of(fields.scalar),
    "spark_env_vars": fields.map_of(fields.scalar),
    "spark_version": _runtime,
    "ssh_public_keys": fields.list_of(fields.text),
    "use_ml_runtime": fields.boolean,
    "workload_type": _OBJECT,
}
_check_fields = fields.record("spark_version", **_KNOWN)


def check_cluster(value: Any, where: str) -> None:
    """Refuse a cluster that the workspace would not start, and what no field of a cluster is called.

    :raises ApiError: INVALID_PARAMETER_VALUE or MALFORMED_REQUEST.
    """
    _check_fields(value, where)
    unknown = sorted(set(value) - set(_KNOWN))
    if unknown:
        raise ApiError("INVALID_PARAMETER_VALUE", f"{where}: a cluster has no field {unknown[0]!r}.")


def has_unity_catalog(cluster: Mapping[str, Any] | None) -> bool:
    """Return whether a cluster has Unity Catalog; serverless compute (None) always has."""
    return cluster is None or cluster.get("data_security_mode") in WITH_UNITY_CATALOG


def runtimes() -> list[dict[str, str]]:
    """The answer of clusters/spark-versions."""
    return [{"key": key, "name": name} for key, name in RUNTIMES.items()]


def node_types() -> list[dict[str, Any]]:
    """The answer of clusters/list-node-types."""
    return [
        {
            "node_type_id": name,
            "instance_type_id": name,
            "memory_mb": memory * 1024,
            "num_cores": float(cores),
            "description": name,
            "category": "General Purpose (HDD)",
            "is_deprecated": False,
        }
        for name, (memory, cores) in NODE_TYPES.items()
    ]
