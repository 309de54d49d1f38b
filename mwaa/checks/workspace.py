"""The Databricks workspace: what it offers, and what it lets the login do that deploys and that the pipeline uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mwaa.checks.report import Context, Result, State, missing, ok, unseen
from mwaa.errors import WorkspaceError
from mwaa.settings import nearest

DEDICATED = ("SINGLE_USER", "DATA_SECURITY_MODE_DEDICATED")
ALL = "ALL_PRIVILEGES"
RIGHTS = "docs/operations.md, The rights in the workspace"


@dataclass(frozen=True)
class View:
    """What the looks at a workspace share.

    :param client: a ``databricks.sdk.WorkspaceClient`` that has been let in.
    :param me: the user or service principal that it is.
    """

    context: Context
    client: Any
    me: Any

    @property
    def name(self) -> str:
        """Return the login's name, as grants take it."""
        return str(self.me.user_name)

    @property
    def groups(self) -> set[str]:
        """Return the groups that the login is in."""
        return {group.display or "" for group in self.me.groups or []}

    @cached_property
    def computes(self) -> dict[str, dict[str, Any]]:
        """Return the settings that say where notebooks run."""
        values = self.context.settings.values(self.context.deployment.account)
        return {
            name: json.loads(values[parameter])
            for name, parameter in (("compute", "Compute"), ("stream_compute", "StreamCompute"))
        }

    @property
    def clusters(self) -> dict[str, dict[str, Any]]:
        """Return the job clusters that would be started, by the setting that describes them."""
        found = {name: compute.get("new_cluster") for name, compute in self.computes.items()}
        return {name: cluster for name, cluster in found.items() if cluster}


Look = Callable[[View], Iterator[Result]]


def workspace(context: Context) -> Iterator[Result]:
    """Yield what is found in the workspace; one line only where it does not let the login in."""
    if not context.deployment.uses_workspace:
        return
    import requests
    from databricks.sdk.errors.base import DatabricksError

    try:
        client = context.deployment.workspace
        view = View(context, client, client.current_user.me())
    except WorkspaceError as error:
        yield missing("workspace", str(error), "DATABRICKS_HOST and a login for it (docs/operations.md)")
        return
    yield ok("workspace", f"{client.config.host}, as {view.name}")
    for thing, look in LOOKS.items():
        try:
            yield from look(view)
        except (DatabricksError, requests.RequestException, TimeoutError) as error:
            yield unseen(thing, (str(error).splitlines() or [type(error).__name__])[0], RIGHTS)


def runtimes(view: View) -> Iterator[Result]:
    """Yield whether the workspace offers the runtimes of the job clusters."""
    offered = {each.key: each.name or "" for each in view.client.clusters.spark_versions().versions or []}
    for name, cluster in view.clusters.items():
        thing, wanted = f"runtime of {name}", str(cluster.get("spark_version", ""))
        if wanted in offered:
            yield ok(thing, wanted)
        elif not (cluster.get("policy_id") and not wanted):
            supported = [key for key, text in offered.items() if "LTS" in text]
            yield missing(
                thing, f"{wanted or 'none'} is not offered", f"spark_version: {nearest(wanted, supported)}"
            )


def node_types(view: View) -> Iterator[Result]:
    """Yield whether the workspace offers the machines of the job clusters."""
    offered = {each.node_type_id for each in view.client.clusters.list_node_types().node_types or []}
    for name, cluster in view.clusters.items():
        thing, wanted = f"machines of {name}", str(cluster.get("node_type_id", ""))
        if wanted in offered:
            yield ok(thing, wanted)
        elif wanted or not {"policy_id", "instance_pool_id"} & set(cluster):
            yield missing(
                thing,
                f"{wanted or 'none'} is not offered",
                f"node_type_id: {nearest(wanted or 'm5d.large', offered)}",
            )


def access_modes(view: View) -> Iterator[Result]:
    """Yield whether each compute has Unity Catalog, and the streams' runs foreachBatch."""
    for name, compute in view.computes.items():
        thing = f"access mode of {name}"
        if compute.get("serverless"):
            if name == "stream_compute":
                yield missing(thing, "serverless compute runs no continuous stream", _dedicated(name))
            continue
        mode = _mode(view, compute)
        if mode == "":
            yield missing(thing, "none, so that the cluster has no Unity Catalog", _dedicated(name))
        elif name == "stream_compute" and mode not in (*DEDICATED, None):
            yield missing(thing, f"{mode} does not run the stream's foreachBatch", _dedicated(name))
        elif mode:
            yield ok(thing, mode)


def existing_clusters(view: View) -> Iterator[Result]:
    """Yield whether the clusters are there that settings name."""
    for name, compute in view.computes.items():
        if wanted := compute.get("existing_cluster_id"):
            if _cluster(view, wanted):
                yield ok(f"cluster of {name}", wanted)
            else:
                known = (
                    ", ".join(sorted(str(each.cluster_id) for each in view.client.clusters.list())) or "none"
                )
                yield missing(
                    f"cluster of {name}", f"there is no {wanted}", f"existing_cluster_id: one of {known}"
                )


def cluster_creation(view: View) -> Iterator[Result]:
    """Yield whether the login may create the job clusters."""
    free = [name for name, cluster in view.clusters.items() if not cluster.get("policy_id")]
    if not free:
        return
    entitlements = {each.value for each in view.me.entitlements or []}
    if "allow-cluster-create" in entitlements or "admins" in view.groups:
        yield ok("cluster creation", "allowed")
        return
    text = f"{view.name} has not the entitlement to create clusters without a policy, as {' and '.join(free)} needs"
    remedy = "an administrator: Settings, Identity and access, Unrestricted cluster creation; or a policy_id"
    if view.groups - {"users"}:  # what a group gives is not told
        yield Result("cluster creation", State.UNSEEN, f"{text}, unless a group of it has", remedy)
    else:
        yield missing("cluster creation", text, remedy)


def instance_profiles(view: View) -> Iterator[Result]:
    """Yield whether the profiles of the job clusters are registered, and open to the login."""
    context = view.context
    known = {each.instance_profile_arn for each in view.client.instance_profiles.list()}
    own = f"arn:aws:iam::{context.deployment.account}:instance-profile/{context.settings.name}-databricks"
    arns = {
        cluster.get("aws_attributes", {}).get("instance_profile_arn") for cluster in view.clusters.values()
    }
    for arn in sorted(filter(None, arns)):
        shown = own if arn == "${DatabricksProfileArn}" else arn
        remedy = f"databricks instance-profiles add {shown}, and let {view.name} use it"
        if shown in known:
            yield ok("instance profile", shown)
        elif shown == own:  # it comes into being with the deployment, and is registered afterwards
            yield Result(
                "instance profile",
                State.UNSEEN,
                f"{shown} is not registered yet",
                f"after deploying: {remedy}",
            )
        else:
            yield missing(
                "instance profile", f"{shown} is not registered, or not open to {view.name}", remedy
            )


def folder(view: View) -> Iterator[Result]:
    """Yield whether the login may put notebooks into their folder."""
    wanted = view.context.settings.notebook_dir
    found = _nearest_folder(view, wanted)
    levels = set()
    for entry in view.client.permissions.get("directories", str(found.object_id)).access_control_list or []:
        who = {entry.user_name, entry.service_principal_name, entry.group_name}
        if who & {view.name, *view.groups, "users"}:
            levels |= {each.permission_level.value for each in entry.all_permissions or []}
    if "CAN_MANAGE" in levels or "admins" in view.groups:
        yield ok("folder of the notebooks", f"{wanted}: can be managed")
    else:
        had = ", ".join(sorted(levels)) or "nothing"
        yield missing(
            "folder of the notebooks",
            f"{view.name} has {had} on {found.path}, and {wanted} needs CAN_MANAGE",
            f"let whoever manages {found.path} share it, or name another notebook_dir",
        )


def catalog(view: View) -> Iterator[Result]:
    """Yield whether the tables' catalog is there, with the privileges to make them."""
    from databricks.sdk.errors import NotFound

    settings = view.context.settings
    name = settings.catalog
    if not name:
        return
    try:
        view.client.catalogs.get(name)
    except NotFound:
        yield missing(
            "catalog",
            f"there is no catalog {name}, or it is closed to {view.name}",
            "catalog: one that exists",
        )
        return
    schema = f"{name}.{settings.schema}"
    try:
        view.client.schemas.get(schema)
    except NotFound:
        yield _granted(view, "catalog", name, ("USE_CATALOG", "CREATE_SCHEMA"))
        return
    yield _granted(view, "catalog", name, ("USE_CATALOG",))
    yield _granted(view, "schema", schema, ("USE_SCHEMA", "CREATE_TABLE", "MODIFY", "SELECT"))


def external_location(view: View) -> Iterator[Result]:
    """Yield whether compute without an instance profile reaches the storage."""
    context = view.context
    values = context.settings.values(context.deployment.account)
    storage = (
        (context.settings.storage or f"s3://{values['DataBucketName']}")
        .replace("s3a://", "s3://")
        .rstrip("/")
    )
    if not storage.startswith("s3://") or not any(each.get("serverless") for each in view.computes.values()):
        return
    thing, remedy = "external location", f"one of {storage} ({RIGHTS})"
    covering = [
        each
        for each in view.client.external_locations.list()
        if f"{storage}/".startswith(f"{str(each.url).rstrip('/')}/")
    ]
    if covering:
        name = max(covering, key=lambda each: len(str(each.url))).name
        yield _granted(view, "external_location", str(name), ("READ_FILES", "WRITE_FILES"))
    elif context.creates("storage"):  # the bucket, and so its location, are made after this
        yield Result(thing, State.UNSEEN, f"none covers {storage} yet", f"after deploying: {remedy}")
    else:
        yield missing(thing, f"none covers {storage}", remedy)


def volume(view: View) -> Iterator[Result]:
    """Yield whether the volume is there that takes the place of a bucket."""
    from databricks.sdk.errors import NotFound

    parts = view.context.settings.storage.removeprefix("dbfs:").strip("/").split("/")
    if parts[0] != "Volumes":
        return
    name = ".".join(parts[1:4])
    try:
        view.client.volumes.read(name)
    except NotFound:
        yield missing(
            "volume",
            f"there is no volume {name}, or it is closed to {view.name}",
            f"CREATE VOLUME {name}; GRANT READ VOLUME, WRITE VOLUME ON VOLUME {name} TO `{view.name}`",
        )
    else:
        yield _granted(view, "volume", name, ("READ_VOLUME", "WRITE_VOLUME"))


def login_of_the_streams(view: View) -> Iterator[Result]:
    """Yield whether the streams' own login is there: a secret scope or a service credential."""
    from databricks.sdk.errors import NotFound

    settings = view.context.settings
    if settings.secret_scope:
        scopes = {each.name for each in view.client.secrets.list_scopes()}
        if lacking := view.context.deployment.lacking_scope_values():
            yield missing("secret scope", "its keys have no value", f"set {' and '.join(lacking)}")
        elif settings.secret_scope in scopes:
            keys = list(view.client.secrets.list_secrets(settings.secret_scope))
            yield ok("secret scope", f"{settings.secret_scope}, {len(keys)} keys")
        else:
            yield ok("secret scope", f"{settings.secret_scope} will be made")
    if settings.service_credential:
        try:
            view.client.credentials.get_credential(settings.service_credential)
        except NotFound:
            yield missing(
                "service credential",
                f"there is no {settings.service_credential}, or it is closed to {view.name}",
                f"create it with purpose SERVICE and grant ACCESS on it to {view.name}",
            )
        else:
            yield ok("service credential", settings.service_credential)


def _granted(view: View, kind: str, name: str, wanted: tuple[str, ...]) -> Result:
    """Return whether the login has these privileges on something, by itself or by a group."""
    found = view.client.grants.get_effective(kind, name, principal=view.name).privilege_assignments or []
    had = {
        getattr(each.privilege, "value", each.privilege)
        for assignment in found
        for each in assignment.privileges or []
    }
    thing = kind.replace("_", " ")
    if ALL in had or set(wanted) <= had:
        return ok(thing, f"{name}: {', '.join(wanted)}")
    lacking = ", ".join(each.replace("_", " ") for each in wanted if each not in had)
    return missing(
        thing,
        f"{view.name} has not {lacking} on {name}",
        f"GRANT {lacking} ON {thing.upper()} {name} TO `{view.name}`",
    )


def _mode(view: View, compute: Mapping[str, Any]) -> str | None:
    """Return a cluster's access mode, empty without one; None where a policy decides, or there is no such cluster."""
    if cluster := compute.get("new_cluster"):
        mode: str | None = cluster.get("data_security_mode", None if "policy_id" in cluster else "")
        return mode
    found = _cluster(view, str(compute.get("existing_cluster_id")))
    if found is None:
        return None
    return found.data_security_mode.value if found.data_security_mode else ""


def _cluster(view: View, cluster_id: str) -> Any:
    from databricks.sdk.errors import BadRequest, NotFound

    try:
        return view.client.clusters.get(cluster_id)
    except (BadRequest, NotFound):
        return None


def _dedicated(name: str) -> str:
    return f"{name}: a cluster with data_security_mode SINGLE_USER"


def _nearest_folder(view: View, path: str) -> Any:
    """Return the folder at a path, or the nearest above it that is there."""
    from databricks.sdk.errors import NotFound

    try:
        return view.client.workspace.get_status(path)
    except NotFound:
        if path in ("", "/"):
            raise
        return _nearest_folder(view, path.rpartition("/")[0] or "/")


LOOKS: dict[str, Look] = {
    "runtimes": runtimes,
    "machines": node_types,
    "access modes": access_modes,
    "clusters": existing_clusters,
    "cluster creation": cluster_creation,
    "instance profile": instance_profiles,
    "folder of the notebooks": folder,
    "catalog": catalog,
    "external location": external_location,
    "volume": volume,
    "login of the streams": login_of_the_streams,
}
CHECKS = {"workspace": workspace}
