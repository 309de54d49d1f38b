"""What a check is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from mwaa.deployment import Deployment
from mwaa.errors import DENIED
from mwaa.settings import Settings
from mwaa.stacks import STILLBORN, template_of

# What a look ends with that AWS does not allow, or that does not reach it.
REFUSED = (ClientError, BotoCoreError, ResponseParserError)


class State(StrEnum):
    """How something is."""

    OK = "ok"
    MISSING = "MISSING"
    UNSEEN = "?"


@dataclass(frozen=True)
class Result:
    """What one look has found.

    :param thing: what was looked at.
    :param found: what is there.
    :param remedy: what to do; empty where nothing is to be done.
    """

    thing: str
    state: State
    found: str
    remedy: str = ""

    @property
    def text(self) -> str:
        """What is there and what to do, on one line."""
        return f"{self.found} -> {self.remedy}" if self.remedy else self.found


def ok(thing: str, found: str) -> Result:
    """Return that all is well."""
    return Result(thing, State.OK, found)


def missing(thing: str, found: str, remedy: str) -> Result:
    """Return what a deployment would fail on."""
    return Result(thing, State.MISSING, found, remedy)


def unseen(thing: str, found: str, remedy: str = "") -> Result:
    """Return that nobody can say."""
    return Result(thing, State.UNSEEN, f"could not look: {found}", remedy)


def why_unseen(error: Exception) -> str:
    """Say why a look came to nothing."""
    if not isinstance(error, ClientError):
        return str(error).splitlines()[0]
    code = error.response["Error"].get("Code", "")
    return f"{error.operation_name} is not permitted" if code in DENIED else f"{error.operation_name}: {code}"


def refused_as(error: ClientError, *codes: str) -> bool:
    """Return whether an error has one of these codes."""
    return error.response["Error"].get("Code", "") in codes


class Context:
    """What the checks look with.

    :param deployment: what would be deployed.
    :param client: makes a boto3 client of a service in the deployment's region.
    """

    def __init__(self, deployment: Deployment, client: Callable[[str], Any]) -> None:
        self.deployment = deployment
        self.client = cache(client)
        self.template = cache(template_of)

    @property
    def settings(self) -> Settings:
        """mwaa.toml."""
        return self.deployment.settings

    def parameter(self, part: str, name: str) -> str:
        """Return the value that a parameter of a template has: the one of mwaa.toml, or the template's default."""
        values = self.settings.values(self.deployment.account)
        default = self.template(part)["Parameters"][name].get("Default", "")
        return str(values.get(name, default))

    def creates(self, part: str) -> bool:
        """Return whether a deployment would create a part's stack, so that what it needs must be there and free."""
        return part in self._new_parts

    @cached_property
    def principal(self) -> str:
        """ARN of the user or role that deploys, as IAM knows it."""
        arn = str(self.client("sts").get_caller_identity()["Arn"])
        if ":assumed-role/" not in arn:
            return arn
        # The name of a session is no principal, and the path of a role is in no session.
        return str(self.client("iam").get_role(RoleName=arn.split("/")[1])["Role"]["Arn"])

    @cached_property
    def _new_parts(self) -> set[str]:
        stacks = self.deployment.stacks
        gone = {None, *STILLBORN}
        return {part for part in self.settings.parts if stacks.status(part) in gone}
