"""What AWS refuses, or leaves open, where ministack is kinder: rule descriptions of EC2, the order of MSK's brokers.

And what AWS takes where ministack does not: rules of security groups of their own, alarms on metric math.

``install`` puts these functions in the place of ministack's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from ministack.services import ec2, msk
from ministack.services.cloudformation import provisioners

# EC2 documents & for ranges of addresses only, and one form for both is what holds everywhere.
DESCRIPTION = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=;{}!$*]{0,255}")
BROKERS = 3

Properties = Mapping[str, Any]


def install() -> None:
    """Make ministack refuse this, for calls of EC2 and for templates."""
    for action in (
        "CreateSecurityGroup",
        "AuthorizeSecurityGroupIngress",
        "AuthorizeSecurityGroupEgress",
        "UpdateSecurityGroupRuleDescriptionsIngress",
        "UpdateSecurityGroupRuleDescriptionsEgress",
    ):
        if action in ec2._ACTION_MAP:
            ec2._ACTION_MAP[action] = _refusing(ec2._ACTION_MAP[action])
    handlers = provisioners._RESOURCE_HANDLERS
    group = handlers["AWS::EC2::SecurityGroup"]
    group["create"] = _checked(group["create"], 1)
    group["update"] = _checked(group["update"], 2)
    handlers["AWS::EC2::SecurityGroupIngress"] = {
        "create": _checked(_create_ingress, 1),
        "delete": _delete_ingress,
    }
    msk._bootstrap_strings = _bootstrap_strings
    provisioners._cw_metric_alarm_record = _on_one_metric(provisioners._cw_metric_alarm_record)


def _refusal(text: str) -> str | None:
    """Return what EC2 says of a description that it does not take."""
    if DESCRIPTION.fullmatch(text):
        return None
    return (
        "Invalid rule description. Valid descriptions are strings less than 256 characters from the following set: "
        "a-zA-Z0-9. _-:/()#,@[]+=;{}!$*"
    )


def _refusing(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @wraps(action)
    def checked(params: Any) -> Any:
        for key in params:
            if str(key).endswith("Description") and (reason := _refusal(ec2._p(params, key))):
                return ec2._error("InvalidParameterValue", reason, 400)
        return action(params)

    return checked


def _checked(handler: Callable[..., Any], index: int) -> Callable[..., Any]:
    """Return a handler of templates that looks at its properties, its argument number `index`, first."""

    @wraps(handler)
    def checked(*arguments: Any) -> Any:
        properties: Properties = arguments[index]
        rules = [*properties.get("SecurityGroupIngress", []), *properties.get("SecurityGroupEgress", [])]
        texts = [
            properties.get("GroupDescription", ""),
            *(each.get("Description", "") for each in (properties, *rules)),
        ]
        if reason := next(filter(None, map(_refusal, texts)), None):
            raise ValueError(f"{reason} (Service: Ec2, Status Code: 400)")
        return handler(*arguments)

    return checked


def _create_ingress(logical_id: str, properties: Properties, stack_name: str) -> tuple[str, dict[str, Any]]:
    group = ec2._security_groups[properties["GroupId"]]
    (rule,) = provisioners._ec2_sg_permissions([properties])
    rule["SecurityGroupRuleId"] = ec2._sg_rule_id(properties["GroupId"], False, rule)
    group["IpPermissions"].append(rule)
    return rule["SecurityGroupRuleId"], {"Id": rule["SecurityGroupRuleId"]}


def _delete_ingress(physical_id: str, properties: Properties) -> None:
    group = ec2._security_groups.get(properties["GroupId"], {"IpPermissions": []})
    group["IpPermissions"][:] = [
        each for each in group["IpPermissions"] if each.get("SecurityGroupRuleId") != physical_id
    ]


def _on_one_metric(record: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Return a handler that takes the first metric of an expression for the whole: nothing is evaluated here."""

    @wraps(record)
    def recorded(name: str, properties: Properties) -> dict[str, Any]:
        queries = properties.get("Metrics") or []
        stats = [query["MetricStat"]["Metric"] for query in queries if "MetricStat" in query]
        return record(name, {**properties, "Metrics": None, **stats[0]} if stats else properties)

    return recorded


def _bootstrap_strings(cluster_name: str) -> dict[str, str]:
    """Return the addresses of a cluster's brokers, in another order each time."""

    def brokers(port: int) -> str:
        numbers = random.sample(range(1, BROKERS + 1), BROKERS)
        return ",".join(f"b-{number}.{cluster_name}.ministack.local:{port}" for number in numbers)

    return {
        "BootstrapBrokerString": brokers(9092),
        "BootstrapBrokerStringTls": brokers(9094),
        "BootstrapBrokerStringSaslScram": brokers(9096),
        "BootstrapBrokerStringSaslIam": brokers(9098),
    }
