"""What stands behind a value of a template, as far as the template says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Place = tuple[str | int, ...]
Template = Mapping[str, Any]

# What a deployment fills in (mwaa/settings.py), by values of the usual form.
USUAL = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::URLSuffix": "amazonaws.com",
    "Name": "pinterest",
    "Prefix": "pinterest",
}


def literals(template: Template, value: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield each value that may stand somewhere, with the place in the template where it is written.

    A reference to a parameter gives its default and its allowed values; what only a deployment knows gives nothing.

    :param value: a value of the template, intrinsic functions as one-key dictionaries.
    :param place: where it stands.
    """
    name, argument = function_of(value)
    if name == "Ref":
        yield from _of_parameter(template, str(argument))
    elif name == "Fn::If":
        for index in (1, 2):
            yield from literals(template, argument[index], (*place, name, index))
    elif name == "Fn::Sub" and isinstance(argument, str):
        text = _filled_in(template, argument)
        if text is not None:
            yield text, (*place, name)
    elif name is None:
        yield value, place


def function_of(value: Any) -> tuple[str | None, Any]:
    """Return name and argument of an intrinsic function; (None, None) for anything else."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, argument),) = value.items()
        if name in {"Ref", "Condition"} or str(name).startswith("Fn::"):
            return name, argument
    return None, None


def resources(template: Template, prefix: str) -> Iterator[tuple[str, Mapping[str, Any], Place]]:
    """Yield name, properties and their place of each resource whose type begins so."""
    for name, resource in template.get("Resources", {}).items():
        if str(resource.get("Type", "")).startswith(prefix):
            yield name, resource.get("Properties", {}), ("Resources", name, "Properties")


def walk(value: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield everything that is nested in a value, the value first, with its place."""
    yield value, place
    children: Any = ()
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, child in children:
        yield from walk(child, (*place, key))


def _of_parameter(template: Template, name: str) -> Iterator[tuple[Any, Place]]:
    declared = template.get("Parameters", {}).get(name, {})
    if declared.get("Type") not in {"String", "Number"}:
        return
    # An empty default says that there is nothing, and conditions then leave the property out.
    if declared.get("Default", "") != "":
        yield declared["Default"], ("Parameters", name, "Default")
    for index, allowed in enumerate(declared.get("AllowedValues", [])):
        yield allowed, ("Parameters", name, "AllowedValues", index)


def _filled_in(template: Template, text: str) -> str | None:
    for name in set(re.findall(r"\$\{([^!}][^}]*)\}", text)):
        default = template.get("Parameters", {}).get(name, {}).get("Default", "")
        usual = USUAL.get(name, str(default))
        if not usual:
            return None
        text = text.replace(f"${{{name}}}", usual)
    return text
