"""A deployment as a whole: what would change, doing it, how it is, and taking it away.

Every step compares before it acts, so that a run that was ended in the middle is simply run again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mwaa import connections, workspace
from mwaa.bucket import Changes, Objects, checksum, compare
from mwaa.errors import DeployError
from mwaa.settings import Settings
from mwaa.stacks import HOLDS_DATA, LOSS, Say, StackChange, Stacks, dependents, teardown

# What the environment takes by version: a new version is what makes MWAA rebuild its machines.
VERSIONED = {
    "plugins.zip": "PluginsVersion",
    "requirements.txt": "RequirementsVersion",
    "startup.sh": "StartupVersion",
}
# What goes by a name with its checksum in it, and the parameter that takes the name.
BY_CHECKSUM = {
    "rest_proxy.zip": ("artefacts/rest_proxy-{}.zip", "RestProxyKey"),
    "s3_sink.zip": ("artefacts/s3_sink-{}.zip", "S3SinkKey"),
    "openapi.yaml": ("templates/openapi-{}.yaml", "OpenApiKey"),
    "connector.json": ("templates/connector-{}.json", "ConnectorKey"),
}
# The keys of the streams' secret scope, and the variables of the environment that they come from.
SCOPE_KEYS = {
    "aws_access_key_id": "PINTEREST_STREAM_ACCESS_KEY_ID",
    "aws_secret_access_key": "PINTEREST_STREAM_SECRET_ACCESS_KEY",
}
NEWEST_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
NOT_YET = "not-uploaded-yet"
ENVIRONMENT_LOGS = ("DAGProcessing", "Scheduler", "Task", "WebServer", "Worker")


class Stop(DeployError):
    """The person said no."""


@dataclass
class Overview:
    """What a deployment would change."""

    stacks: list[StackChange] = field(default_factory=list)
    objects: Changes = field(default_factory=Changes)
    connections: list[str] = field(default_factory=list)
    notebooks: Changes = field(default_factory=Changes)
    scope: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        stacks = any(change.action != "none" for change in self.stacks)
        return bool(stacks or self.objects or self.connections or self.notebooks or self.scope)

    def lines(self) -> Iterator[str]:
        """Return what a person reads."""
        for change in self.stacks:
            if change.action != "none":
                yield f"{change.action} stack {change.part}"
                yield from (f"  {line}" for line in change.lines)
        for title, lines in (
            ("files", self.objects.lines("")),
            ("connections", [f"~ {name}" for name in self.connections]),
            ("notebooks", self.notebooks.lines("")),
            ("secret scope", [f"~ {name}" for name in self.scope]),
        ):
            if lines:
                yield title
                yield from (f"  {line}" for line in lines)


class Deployment:
    """One deployment.

    :param settings: mwaa.toml.
    :param client: makes a boto3 client of a service in the deployment's region.
    :param environment: variables; the secret parts of connections are among them.
    :param built: folder of the artefacts, see :func:`mwaa.package.build`.
    :param say: is told each step.
    :param ask: is asked before anything changes; with the question, returns the answer.
    """

    def __init__(
        self,
        settings: Settings,
        client: Callable[[str], Any],
        environment: Mapping[str, str],
        built: Path,
        say: Say,
        ask: Callable[[str], str],
    ) -> None:
        self.settings = settings
        self.stacks = Stacks(client("cloudformation"), settings.stack, say)
        self._client = client
        self._environment = environment
        self._built = built
        self._say = say
        self._ask = ask

    # -- what is there ------------------------------------------------------------------------------------------

    @cached_property
    def account(self) -> str:
        """Number of the account that the credentials belong to."""
        return str(self._client("sts").get_caller_identity()["Account"])

    @cached_property
    def workspace(self) -> Any:
        """A client of the Databricks workspace."""
        return workspace.connect()

    @property
    def uses_workspace(self) -> bool:
        """Whether notebooks belong to this deployment."""
        return "databricks" in self.settings.parts

    def values(self) -> dict[str, str]:
        """Return the parameters of all templates as far as they are known: settings, outputs, artefacts."""
        found = {**self.settings.values(self.account), "Region": self.settings.region}
        for part in self.settings.parts:
            found |= self.stacks.outputs(part)
        if cluster := found.get("KafkaClusterArn"):
            found["KafkaBootstrap"] = self._brokers(cluster)
        if "proxy" in self.settings.parts and "ProxyImage" not in self.settings.parameters:
            found["ProxyImage"] = found.get("ProxyImageId") or self._newest_image()
        found |= self._artefact_values(found.get("MwaaBucket"))
        found |= {**self.settings.given, **self.settings.parameters}
        for name in ("Compute", "StreamCompute"):
            found[name] = found[name].replace(
                "${DatabricksProfileArn}", found.get("DatabricksProfileArn", "")
            )
        return found

    def _brokers(self, cluster: str) -> str:
        """Return the brokers' addresses in an order of their own, without those changes that mean nothing.

        MSK answers in any order, and leaves out a broker now and then; another text would renew the proxy's machines
        and the connector.
        """
        reply = self._client("kafka").get_bootstrap_brokers(ClusterArn=cluster)
        brokers = sorted(reply["BootstrapBrokerStringSaslIam"].split(","))
        before = self.stacks.parameters("proxy").get("KafkaBootstrap", "").split(",")
        return ",".join(before if set(brokers) < set(before) else brokers)

    def _newest_image(self) -> str:
        """Return the image that the proxy's machines start with; the stack then keeps it until another one is named."""
        return str(self._client("ssm").get_parameter(Name=NEWEST_IMAGE)["Parameter"]["Value"])

    def _artefact_values(self, bucket: str | None) -> dict[str, str]:
        found = {parameter: key for _, key, parameter in self._by_checksum()}
        if not bucket:
            return found
        found["OpenApiLocation"] = f"s3://{bucket}/{found['OpenApiKey']}"
        found["ConnectorLocation"] = f"s3://{bucket}/{found['ConnectorKey']}"
        objects = Objects(self._client("s3"), bucket)
        there = objects.checksums(VERSIONED)
        for name, parameter in VERSIONED.items():
            same = there.get(name) == checksum(self._built / name)
            found[parameter] = objects.version(name) if same else NOT_YET
        return found

    def _by_checksum(self) -> Iterator[tuple[Path, str, str]]:
        for name, (pattern, parameter) in BY_CHECKSUM.items():
            path = self._built / name
            yield path, pattern.format(checksum(path)[:16]), parameter

    def _files(self) -> dict[str, Path]:
        """Return key -> file of everything that lies in the MWAA bucket."""
        dags = sorted(path for path in (self._built / "dags").rglob("*") if path.is_file())
        files = {path.relative_to(self._built).as_posix(): path for path in dags}
        files |= {name: self._built / name for name in VERSIONED}
        return files | {key: path for path, key, _ in self._by_checksum()}

    # -- what would change --------------------------------------------------------------------------------------

    def overview(self) -> Overview:
        """Compare everything; changes nothing, but for change sets, which :meth:`drop` or a deployment ends."""
        values = self.values()
        found = Overview()
        bucket = self.stacks.outputs("storage").get("MwaaBucket") or self.settings.given.get("MwaaBucket")
        if bucket:
            # CloudFormation reads the API's definition from the bucket when it makes a change set.
            self._put_missing([key for key in self._files() if key.startswith("templates/")], bucket)
        found.objects = self._object_changes(bucket)
        for part in self.settings.parts:
            found.stacks.append(self.stacks.plan(part, values))
        found.connections = self._connection_changes(values)
        if self.uses_workspace:
            found.notebooks = self.notebook_changes()
            with workspace.spoken():
                if self.settings.secret_scope:
                    found.scope = workspace.scope_changes(
                        self.workspace, self.settings.secret_scope, self._scope_values()
                    )
        return found

    def notebook_changes(self) -> Changes:
        """Compare the notebooks with the workspace."""
        with workspace.spoken():
            return workspace.notebook_changes(
                self.workspace, self._built / "notebooks", self.settings.notebook_dir
            )

    def drop(self, overview: Overview) -> None:
        """Forget the change sets that were made for an overview."""
        for change in overview.stacks:
            self.stacks.drop(change)

    def _object_changes(self, bucket: str | None) -> Changes:
        files = self._files()
        here = {key: checksum(path) for key, path in files.items()}
        if not bucket:
            return compare(here, {})
        objects = Objects(self._client("s3"), bucket)
        there = objects.checksums(files)
        there |= dict.fromkeys(set(objects.keys("dags/")) - files.keys(), "")
        return compare(here, there)

    def _connection_changes(self, values: Mapping[str, str]) -> list[str]:
        if "secrets" not in self.settings.parts:
            return []
        secrets = connections.Secrets(self._client("secretsmanager"), self.settings.name)
        wanted = connections.wanted(values, self._environment)
        return [name for name, value in wanted.items() if value and secrets.differs(name, value)]

    def lacking_scope_values(self) -> list[str]:
        """Return the variables of the environment that the keys of the secret scope come from and that are not set."""
        return [variable for variable in SCOPE_KEYS.values() if not self._environment.get(variable)]

    def _scope_values(self) -> dict[str, str]:
        if missing := self.lacking_scope_values():
            raise DeployError(
                f"mwaa.toml names a secret_scope, and its keys come from the environment: set {' and '.join(missing)}, "
                "or leave secret_scope empty to use the cluster's instance profile."
            )
        return {key: self._environment[variable] for key, variable in SCOPE_KEYS.items()}

    # -- doing it -----------------------------------------------------------------------------------------------

    def deploy(self) -> bool:
        """Show what would change, ask, do it; return whether there was anything to do."""
        self._check_environment()
        shown = self.overview()
        if not shown:
            self._say("Nothing has changed.")
            return False
        for line in shown.lines():
            self._say(line)
        try:
            agreed = self._agreed(shown.lines(), "Do this?")
        except BaseException:
            with contextlib.suppress(Exception):  # must not take the place of what went wrong first
                self.drop(shown)
            raise
        self.drop(shown)
        if not agreed:
            raise Stop("Nothing was changed.")
        if bucket := self.settings.given.get("MwaaBucket"):
            self._put_missing([key for key in self._files() if not key.startswith("dags/")], bucket)
        for part in self.settings.parts:
            for each in (part, *(again for again in dependents(part) if again in self.settings.parts)):
                self._deploy_part(each, next(change for change in shown.stacks if change.part == each))
        self._deploy_workspace()
        self._sync_dags()
        self._say("Deployed.")
        return True

    def _agreed(self, lines: Iterable[str], question: str) -> bool:
        """Ask; where data would be lost, a yes, or --yes, is not enough."""
        if any(LOSS in line for line in lines):
            question = f"Data would be lost. Type the deployment's name to go on ({self.settings.name}): "
            return self._ask(question).strip() == self.settings.name
        return self._ask(f"{question} [y/N] ").strip().lower() in {"y", "yes"}

    def _check_environment(self) -> None:
        """Find out what is missing before anything is changed, not half-way through."""
        if self.uses_workspace:
            _ = self.workspace
        for name, variables in self.connections_without_a_value().items():
            raise DeployError(
                f"The connection {name} has no value yet, and nothing gives it one: set {variables}."
            )

    def connections_without_a_value(self) -> dict[str, str]:
        """Return the connections that have no value and would get none, with what has to be set for each."""
        if "secrets" not in self.settings.parts:
            return {}
        secrets = connections.Secrets(self._client("secretsmanager"), self.settings.name)
        known = {**self.settings.values(self.account), "Region": self.settings.region}
        wanted = connections.wanted(known, self._environment)
        return {
            name: variables
            for name, variables in (
                ("databricks_default", "DATABRICKS_HOST with DATABRICKS_TOKEN"),
                ("pinterest_source", "PINTEREST_SOURCE_URL (mysql://user:password@host/database)"),
            )
            if name in wanted and wanted[name] is None and not secrets.has_value(name)
        }

    def _deploy_part(self, part: str, shown: StackChange) -> None:
        values = self.values()
        change = self.stacks.plan(part, values)
        if change.action != "none":
            unexpected = set(change.lines) - set(shown.lines)
            if unexpected and shown.action not in {"create", "renew"}:
                self._say(f"What came before changes more of {part}:")
                for line in sorted(unexpected):
                    self._say(f"  {line}")
                if not self._agreed(unexpected, "Do this too?"):
                    self.stacks.drop(change)
                    raise Stop(f"Stopped before the stack {part}. Run this again to go on.")
            self._say(f"stack {part}: {change.action}")
            self.stacks.apply(change, values)
        if part == "storage":
            self._put_missing([key for key in self._files() if not key.startswith("dags/")])
        if part in {"secrets", "kafka"} and "secrets" in self.settings.parts:
            self._put_connections()

    def _put_missing(self, keys: list[str], bucket: str | None = None) -> None:
        """Upload those of the files that the bucket does not hold as they are."""
        bucket = bucket or self.values()["MwaaBucket"]
        objects, files = Objects(self._client("s3"), bucket), self._files()
        there = objects.checksums(keys)
        for key in keys:
            if there.get(key) != checksum(files[key]):
                objects.put(key, files[key])
                self._say(f"  uploaded         {key}")

    def _put_connections(self) -> None:
        secrets = connections.Secrets(self._client("secretsmanager"), self.settings.name)
        for name, value in connections.wanted(self.values(), self._environment).items():
            if value and secrets.differs(name, value):
                secrets.put(name, value)
                self._say(f"  written          connection {name}")

    def _deploy_workspace(self) -> None:
        if not self.uses_workspace:
            return
        with workspace.spoken():
            source, target = self._built / "notebooks", self.settings.notebook_dir
            changes = workspace.notebook_changes(self.workspace, source, target)
            if changes:
                workspace.upload_notebooks(self.workspace, source, target, changes)
                for line in changes.lines(f"{target}/"):
                    self._say(f"  notebook         {line}")
            if self.settings.secret_scope:
                for key in workspace.put_scope(
                    self.workspace, self.settings.secret_scope, self._scope_values()
                ):
                    self._say(f"  written          secret {self.settings.secret_scope}/{key}")

    def _sync_dags(self) -> None:
        """Bring dags/ to what was built, last: a DAG may need plugins and notebooks that only now are there."""
        if "storage" not in self.settings.parts and "MwaaBucket" not in self.settings.given:
            return
        files = [key for key in self._files() if key.startswith("dags/")]
        bucket = self.values()["MwaaBucket"]
        self._put_missing(files, bucket)
        objects = Objects(self._client("s3"), bucket)
        for key in sorted(set(objects.keys("dags/")) - set(files)):
            objects.delete(key)
            self._say(f"  removed          {key}")

    # -- taking it away -----------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """List what holds data, ask for the deployment's name, and take everything away, the last part first."""
        there = [part for part in self.settings.parts if self.stacks.status(part)]
        if not there:
            self._say(f"There is no stack of {self.settings.name} in {self.settings.region}.")
            return
        self._say(f"This deletes the stacks {', '.join(self.settings.stack(part) for part in there)}.")
        self._say("What they hold is lost:")
        for line in self._holds_data(there):
            self._say(f"  {line}")
        if (
            self._ask(f"Type the deployment's name to go on ({self.settings.name}): ").strip()
            != self.settings.name
        ):
            raise Stop("Nothing was deleted.")
        if self.uses_workspace:
            self._remove_from_workspace()
        for part in teardown(there):
            if part == "storage":
                for bucket in self._buckets():
                    self._say(f"  emptied          {bucket} ({self._objects(bucket).empty()} versions)")
            self._say(f"stack {part}: delete")
            self.stacks.delete(part)
        for group in self._environment_logs():
            self._client("logs").delete_log_group(logGroupName=group)
            self._say(f"  removed          log group {group}")
        self._say("Destroyed.")

    def _holds_data(self, parts: list[str]) -> Iterator[str]:
        for part in parts:
            for resource in self.stacks.resources(part):
                kind = HOLDS_DATA.get(resource["ResourceType"])
                if kind == "bucket":
                    kind += f" of {len(self._objects(resource['PhysicalResourceId']).keys(''))} objects"
                if kind:
                    yield f"{kind}: {resource['PhysicalResourceId']}"
        for group in self._environment_logs():
            yield f"log group: {group}"

    def _environment_logs(self) -> list[str]:
        """Log groups of the environment: MWAA makes them itself, and leaves them behind when it is deleted."""
        prefix = f"airflow-{self.settings.name}-"
        pages = self._client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
        # By their exact names: what begins so may be another environment's.
        ours = {f"{prefix}{name}" for name in ENVIRONMENT_LOGS}
        return [
            each["logGroupName"]
            for page in pages
            for each in page["logGroups"]
            if each["logGroupName"] in ours
        ]

    def _buckets(self) -> list[str]:
        resources = self.stacks.resources("storage")
        return [each["PhysicalResourceId"] for each in resources if each["ResourceType"] == "AWS::S3::Bucket"]

    def _objects(self, bucket: str) -> Objects:
        return Objects(self._client("s3"), bucket)

    def _remove_from_workspace(self) -> None:
        with workspace.spoken():
            if workspace.remove_notebooks(self.workspace, self.settings.notebook_dir):
                self._say(f"  removed          notebooks {self.settings.notebook_dir}")
            scope = self.settings.secret_scope
            if scope and scope in {each.name for each in self.workspace.secrets.list_scopes()}:
                self.workspace.secrets.delete_scope(scope)
                self._say(f"  removed          secret scope {scope}")
