"""CloudFormation: one stack a template, changed by change sets, so that what will happen is seen before it does."""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError

from mwaa.errors import SettingError, StackError
from mwaa.settings import PARTS, Settings, nearest

TEMPLATES = Path(__file__).parent / "cloudformation"
CAPABILITIES = ["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
# A stack in one of these has never worked, and holds nothing that anybody uses.
STILLBORN = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS"}
GOOD = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}
# What holds data, and what a person calls it.
HOLDS_DATA = {
    "AWS::S3::Bucket": "bucket",
    "AWS::Kinesis::Stream": "stream",
    "AWS::MSK::Cluster": "Kafka cluster, all topics",
    "AWS::MSK::ServerlessCluster": "Kafka cluster, all topics",
    "AWS::RDS::DBInstance": "database (a last snapshot is kept)",
    "AWS::SecretsManager::Secret": "secret",
}
# What goes by a name that is taken until it is gone: CloudFormation makes a replacement first, and so cannot.
ONE_OF_A_NAME = {"AWS::KafkaConnect::Connector"}
NAMES = {"BucketName", "ClusterName", "DBInstanceIdentifier", "Name"}
STACK = "AWS::CloudFormation::Stack"
# Status of the stack itself with which an operation begins; a rollback is part of the operation that failed.
BEGINNINGS = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}
LOSS = "REPLACED: what it holds is lost"
LONGEST_PAUSE_SECONDS = 5
SLOWEST_NEWS_SECONDS = 30

Say = Callable[[str], None]


class _Loader(yaml.SafeLoader):
    """Reads a template's YAML; what !Ref and its like mean is CloudFormation's business."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: str(node.value))


@dataclass(frozen=True)
class StackChange:
    """What would happen to one stack.

    :param part: which template.
    :param action: ``create``, ``update``, ``renew`` (remove and create again) or ``none``.
    :param lines: one a resource, as a person reads it.
    :param change_set: of an update: its ARN.
    """

    part: str
    action: str
    lines: tuple[str, ...] = ()
    change_set: str = ""


class Stacks:
    """The stacks of one deployment.

    :param client: a boto3 CloudFormation client.
    :param name: part -> name of its stack.
    :param say: is told each step.
    """

    def __init__(self, client: Any, name: Callable[[str], str], say: Say) -> None:
        self._client = client
        self._name = name
        self._say = say

    def status(self, part: str) -> str | None:
        """Return a stack's status, or None if there is no such stack."""
        stack = self._describe(part)
        return None if stack is None else str(stack["StackStatus"])

    def outputs(self, part: str) -> dict[str, str]:
        """Return what a stack puts out; nothing if it does not exist."""
        stack = self._describe(part) or {}
        return {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}

    def parameters(self, part: str) -> dict[str, str]:
        """Return what a stack was given; nothing if it does not exist."""
        stack = self._describe(part) or {}
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", [])}

    def resources(self, part: str) -> list[dict[str, Any]]:
        """Return a stack's resources (``ResourceType``, ``PhysicalResourceId``, ``ResourceStatus`` …)."""
        if self.status(part) is None:
            return []
        pages = self._client.get_paginator("list_stack_resources").paginate(StackName=self._name(part))
        return [each for page in pages for each in page["StackResourceSummaries"]]

    def plan(self, part: str, values: Mapping[str, str]) -> StackChange:
        """Say what a template would change; a change set that was made for it stays until it is applied or dropped.

        :raises StackError: the stack is in a state that somebody has to see to first.
        """
        status = self._settled(part)
        if status is None or status in STILLBORN:
            resources = template_of(part)["Resources"]
            lines = tuple(f"+ {name}  {each['Type']}" for name, each in resources.items())
            if status in STILLBORN - {"REVIEW_IN_PROGRESS"}:
                lines = (f"! the stack is in {status} ({self._reason(part)}): removed and made anew", *lines)
            return StackChange(part, "create", lines)
        if status not in GOOD:
            raise StackError(
                f"Stack {self._name(part)} is in {status}: {self._reason(part)} {_advice(status)}"
            )
        return self._planned_update(part, values)

    def apply(self, change: StackChange, values: Mapping[str, str]) -> None:
        """Do what was planned and wait until it is done.

        :raises StackError: CloudFormation could not; with its reason.
        """
        part, stack = change.part, self._name(change.part)
        if change.action == "none":
            return
        change_set = change.change_set
        if change.action == "renew" or self.status(part) in STILLBORN:
            self.delete(part)
        if change.action in {"create", "renew"}:
            change_set = self._make_change_set(part, values, "CREATE")[0]
        since = self._newest_event(part)
        self._client.execute_change_set(ChangeSetName=change_set)
        status = self._wait(part, since, begun=True)
        if status not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
            raise StackError(f"Stack {stack} is in {status}: {self._reason(part)} {_advice(status)}")

    def drop(self, change: StackChange) -> None:
        """Forget a planned update."""
        if change.change_set:
            self._client.delete_change_set(ChangeSetName=change.change_set)

    def delete(self, part: str) -> bool:
        """Delete a stack and wait; return whether there was one.

        :raises StackError: something of it cannot be deleted.
        """
        stack = self._describe(part)
        if stack is None:
            return False
        since = self._newest_event(part)
        self._client.delete_stack(StackName=self._name(part))
        status = self._wait(part, since, stack["StackId"], begun=True)
        if status not in {None, "DELETE_COMPLETE"}:
            raise StackError(f"Stack {self._name(part)} is in {status}: {self._reason(part)} Run this again.")
        return True

    def _planned_update(self, part: str, values: Mapping[str, str]) -> StackChange:
        name, described = self._make_change_set(part, values, "UPDATE")
        if described["Status"] == "FAILED":
            self._client.delete_change_set(ChangeSetName=name)
            return StackChange(part, "none")
        changes = [each["ResourceChange"] for each in described.get("Changes", [])]
        lines = tuple(_line(each) for each in changes) or ("~ tags or outputs only",)
        if any(each["ResourceType"] in ONE_OF_A_NAME and _replaces(each) for each in changes):
            note = f"! {self._name(part)} is removed and made anew: its name is taken until it is gone"
            return StackChange(part, "renew", (note, *lines), name)
        return StackChange(part, "update", lines, name)

    def _make_change_set(
        self, part: str, values: Mapping[str, str], kind: str
    ) -> tuple[str, Mapping[str, Any]]:
        """Make a change set and wait until it is known; FAILED means that there is nothing to change."""
        parameters = parameters_of(part, values)
        made = self._client.create_change_set(
            StackName=self._name(part),
            ChangeSetName=f"mwaa-{secrets.token_hex(6)}",
            ChangeSetType=kind,
            TemplateBody=rendered(part, parameters),
            Parameters=[{"ParameterKey": key, "ParameterValue": text} for key, text in parameters.items()],
            Capabilities=CAPABILITIES,
        )
        for _ in _pauses():
            described: dict[str, Any] = self._client.describe_change_set(ChangeSetName=made["Id"])
            if described["Status"] in {"CREATE_COMPLETE", "FAILED"}:
                break
        while token := described.pop("NextToken", None):
            page = self._client.describe_change_set(ChangeSetName=made["Id"], NextToken=token)
            described["Changes"] += page["Changes"]
            described["NextToken"] = page.get("NextToken")
        reason = described.get("StatusReason", "")
        nothing = re.search(r"didn't contain changes|No updates are to be performed", reason)
        if described["Status"] == "FAILED" and not nothing:
            if "DescribeEvents" in reason:
                reason = _advised(self._refusals(ChangeSetName=made["Id"]))
            self._client.delete_change_set(ChangeSetName=made["Id"])
            raise StackError(f"CloudFormation does not take {part}.yaml for {self._name(part)}: {reason}")
        return str(made["Id"]), described

    def _settled(self, part: str) -> str | None:
        """Return the status once nothing is in progress: an earlier run may have been ended in the middle."""
        status = self.status(part)
        if status and status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS":
            self._say(f"  {self._name(part)} is in {status}; waiting for it")
            return self._wait(part, self._newest_event(part))
        return status

    def _wait(self, part: str, since: str | None, stack_id: str = "", *, begun: bool = False) -> str | None:
        """Tell the events until nothing is in progress; return the status, None for a stack that is gone.

        :param begun: something was just begun, of which the first answers may know nothing yet: a status counts once
            there is an event that is newer than ``since``, or a while has passed.
        """
        told, end = since, time.monotonic() + SLOWEST_NEWS_SECONDS
        for _ in _pauses():
            stack = self._describe(part, stack_id)
            if stack is None:
                return None
            told = self._tell_events(stack["StackId"], told)
            heard = told != since or not begun or time.monotonic() > end
            if heard and not stack["StackStatus"].endswith("_IN_PROGRESS"):
                return str(stack["StackStatus"])
        raise AssertionError("pauses never end")

    def _tell_events(self, stack_id: str, since: str | None) -> str | None:
        fresh = list(itertools.takewhile(lambda event: event["EventId"] != since, self._events(stack_id)))
        for event in reversed(fresh):
            if not event["ResourceStatus"].endswith("_IN_PROGRESS"):
                self._say(f"  {event['ResourceStatus'].lower():<16} {event['LogicalResourceId']}")
        return fresh[0]["EventId"] if fresh else since

    def _newest_event(self, part: str) -> str | None:
        if self._describe(part) is None:
            return None
        newest = next(self._events(self._name(part)), None)
        return str(newest["EventId"]) if newest else None

    def _events(self, stack: str) -> Iterator[dict[str, Any]]:
        """Yield a stack's events, the newest first; a page holds 100, and is asked for when it is needed."""
        for page in self._client.get_paginator("describe_stack_events").paginate(StackName=stack):
            yield from page["StackEvents"]

    def _last_operation(self, part: str) -> list[dict[str, Any]]:
        """Return the events of a stack's last operation, the oldest first."""
        found = []
        for event in self._events(self._name(part)):
            found.append(event)
            if event.get("ResourceType") == STACK and event["ResourceStatus"] in BEGINNINGS:
                break
        return found[::-1]

    def _reason(self, part: str) -> str:
        """Why the stack's last operation failed: its first failed resource, as the others only follow."""
        for event in self._last_operation(part):
            reason = event.get("ResourceStatusReason", "")
            if "DescribeEvents" in reason:
                return _advised(self._refusals(StackName=self._name(part)))
            if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason.lower():
                return _advised(f"{event['LogicalResourceId']}: {reason}")
        return "CloudFormation gives no reason."

    def _refusals(self, **which: str) -> str:
        """What CloudFormation found wrong before it began; it keeps that apart from the stack's other events."""
        pages = self._client.get_paginator("describe_events").paginate(
            **which, Filters={"FailedEvents": True}
        )
        return "; ".join(
            f"{each['LogicalResourceId']}: {each['ValidationStatusReason']}"
            for page in pages
            for each in page["OperationEvents"]
            if each["EventType"] == "VALIDATION_ERROR"
        )

    def _describe(self, part: str, stack_id: str = "") -> dict[str, Any] | None:
        try:
            stacks = self._client.describe_stacks(StackName=stack_id or self._name(part))["Stacks"]
        except ClientError as error:
            if "does not exist" in error.response["Error"].get("Message", ""):
                return None
            raise
        found: dict[str, Any] = stacks[0]
        return None if found["StackStatus"] == "DELETE_COMPLETE" else found


def _advised(reason: str) -> str:
    taken = re.search(r"already exist|already own", reason)
    advice = " The name is taken: choose another in mwaa.toml, or remove what has it." if taken else ""
    return f"{reason.rstrip('. ')}.{advice}"


def _advice(status: str | None) -> str:
    """What to do about a stack that is not as it should be."""
    if status in STILLBORN:
        return "Mend the cause and run this again: what failed is removed and made anew."
    if status in GOOD:
        return "What was there before is back. Mend the cause and run this again."
    if status == "DELETE_FAILED":
        return "To go on, finish it with: python -m mwaa destroy"
    return "To go on, choose 'Continue update rollback' in the CloudFormation console, then run this again."


def template_of(part: str) -> dict[str, Any]:
    """Return a part's template, intrinsic functions as plain text."""
    found: dict[str, Any] = yaml.load((TEMPLATES / f"{part}.yaml").read_text("utf-8"), _Loader)  # noqa: S506
    return found


def parameters_of(part: str, values: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters of a part's template; what has no value takes the template's default.

    :raises StackError: one has neither.
    """
    found = {}
    for name, declared in template_of(part).get("Parameters", {}).items():
        if name in values:
            found[name] = values[name]
        elif "Default" not in declared:
            givers = [other for other in PARTS if name in template_of(other).get("Outputs", {})]
            raise StackError(
                f"{part}.yaml needs {name}"
                + (f", which the part {givers[0]} puts out: deploy that part, or" if givers else ":")
                + f' name it in mwaa.toml: given = {{ {name} = "…" }}'
            )
    return found


def dependents(part: str) -> list[str]:
    """Return the parts that are deployed before a part, and once more after it: they take what it puts out."""
    outputs = template_of(part).get("Outputs", {}).keys()
    earlier = PARTS[: PARTS.index(part)]
    return [each for each in earlier if outputs & template_of(each).get("Parameters", {}).keys()]


def teardown(parts: Sequence[str]) -> list[str]:
    """Return parts in the order in which they can be deleted: what takes an output before what puts it out."""
    order: list[str] = []
    for part in reversed(parts):
        order += [each for each in (*dependents(part), part) if each in parts and each not in order]
    return order


def check_names(settings: Settings) -> None:
    """Refuse a name below ``given`` or ``parameters`` that no template knows: it would do nothing, and say nothing.

    :raises SettingError: with the names that are nearest to it.
    """
    templates = [template_of(part) for part in PARTS]
    takes = {name for template in templates for name in template.get("Parameters", {})}
    puts_out = {name for template in templates for name in template.get("Outputs", {})}
    for table, known in (("parameters", takes), ("given", takes | puts_out)):
        for name in getattr(settings, table):
            if name not in known:
                raise SettingError(f"mwaa.toml: {table}: no template has {name!r}. {nearest(name, known)}")


def rendered(part: str, parameters: Mapping[str, str]) -> str:
    """Return a template as CloudFormation gets it.

    A deployment of the API is named after what it is a snapshot of, and the address of an include stands as text: not
    every CloudFormation looks up a parameter there.
    """
    text = (TEMPLATES / f"{part}.yaml").read_text("utf-8")
    for name in ("OpenApiLocation", "ConnectorLocation"):
        if name in parameters:
            text = text.replace(f"Location: !Ref {name}", f"Location: {parameters[name]}")
    if part == "api":
        snapshot = parameters["OpenApiLocation"] + parameters["KinesisRoleArn"]
        digest = hashlib.sha256(snapshot.encode()).hexdigest()[:12]
        text = text.replace("ApiDeployment", f"ApiDeployment{digest}")
    return text


def _line(change: Mapping[str, Any]) -> str:
    """Return one resource's change as a person reads it."""
    sign = {"Add": "+", "Modify": "~", "Remove": "-"}.get(change["Action"], "?")
    text = f"{sign} {change['LogicalResourceId']}  {change['ResourceType']}"
    targets = (each.get("Target", {}) for each in change.get("Details", []))
    names = sorted({str(each.get("Name") or each.get("Attribute")) for each in targets} - {"None"})
    if names:
        text += f"  ({', '.join(names)})"
    replacement = change.get("Replacement")
    if not _replaces(change):
        return text
    # A thing of another name is another thing, even where CloudFormation only says that it may be.
    if change["ResourceType"] in HOLDS_DATA and (replacement == "True" or NAMES.intersection(names)):
        return f"{text}  {LOSS}"
    return f"{text}  {'replaced' if replacement == 'True' else 'perhaps replaced'}"


def _replaces(change: Mapping[str, Any]) -> bool:
    """Whether a change makes another thing of it, or may."""
    return change["Action"] == "Modify" and change.get("Replacement") in {"True", "Conditional"}


def _pauses() -> Iterator[None]:
    """Come back at once, then after ever longer pauses: a stand-in is done in no time, AWS may take half an hour."""
    pause = 0.02
    while True:
        yield
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
