"""Quotas that a deployment would hit. An account that is new has the smallest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from mwaa.checks.report import Context, Result, missing, ok, refused_as


@dataclass(frozen=True)
class Quota:
    """A quota of Service Quotas, and how much of it is used.

    :param applies: whether this deployment would use it.
    """

    thing: str
    service: str
    code: str
    wanted: int
    used: Callable[[Context], int]
    applies: Callable[[Context], bool]


def _count(service: str, operation: str, key: str) -> Callable[[Context], int]:
    def used(context: Context) -> int:
        pages = context.client(service).get_paginator(operation).paginate()
        return sum(len(page[key]) for page in pages)

    return used


def _addresses(context: Context) -> int:
    return len(context.client("ec2").describe_addresses()["Addresses"])


def _balancers(context: Context) -> int:
    pages = context.client("elbv2").get_paginator("describe_load_balancers").paginate()
    return sum(each["Type"] == "network" for page in pages for each in page["LoadBalancers"])


def _brokers(context: Context) -> int:
    pages = context.client("kafka").get_paginator("list_clusters_v2").paginate()
    clusters = (each for page in pages for each in page["ClusterInfoList"])
    return sum(each.get("Provisioned", {}).get("NumberOfBrokerNodes", 0) for each in clusters)


def _with_a_way_out(context: Context) -> bool:
    return context.creates("network") and context.parameter("network", "WayOut") == "nat"


def _with_brokers(context: Context) -> bool:
    return context.creates("kafka") and context.parameter("kafka", "KafkaMode") == "provisioned"


QUOTAS = (
    Quota(
        *("VPCs", "vpc", "L-F678F1CE", 1),
        used=_count("ec2", "describe_vpcs", "Vpcs"),
        applies=lambda context: context.creates("network"),
    ),
    Quota(
        *("internet gateways", "vpc", "L-A4707A72", 1),
        used=_count("ec2", "describe_internet_gateways", "InternetGateways"),
        applies=_with_a_way_out,
    ),
    Quota("elastic IP addresses", "ec2", "L-0263D0A3", 1, used=_addresses, applies=_with_a_way_out),
    Quota(
        *("network load balancers", "elasticloadbalancing", "L-69A177A2", 1),
        used=_balancers,
        applies=lambda context: context.creates("proxy"),
    ),
    Quota("Kafka brokers", "kafka", "L-EDD31C36", 3, used=_brokers, applies=_with_brokers),
    Quota(
        *("MWAA environments", "airflow", "L-67D41C6B", 1),
        used=_count("mwaa", "list_environments", "Environments"),
        applies=lambda context: context.creates("environment"),
    ),
)


def _limit(context: Context, quota: Quota) -> int:
    client, which = context.client("service-quotas"), {"ServiceCode": quota.service, "QuotaCode": quota.code}
    try:
        return int(client.get_service_quota(**which)["Quota"]["Value"])
    except ClientError as error:
        if not refused_as(error, "NoSuchResourceException"):
            raise
        return int(client.get_aws_default_service_quota(**which)["Quota"]["Value"])


def _check(quota: Quota) -> Callable[[Context], Iterator[Result]]:
    def check(context: Context) -> Iterator[Result]:
        if quota.applies(context):
            used, limit = quota.used(context), _limit(context, quota)
            ask = (
                f"aws service-quotas request-service-quota-increase --service-code {quota.service} "
                f"--quota-code {quota.code} --desired-value {used + quota.wanted}"
            )
            yield _result(quota.thing, used, limit, quota.wanted, ask)

    return check


def _result(thing: str, used: int, limit: int, wanted: int, remedy: str) -> Result:
    text = f"{used} of {limit} used, {wanted} more wanted"
    return ok(thing, text) if used + wanted <= limit else missing(thing, text, remedy)


def _streams(context: Context) -> Iterator[Result]:
    if context.creates("streams") and context.parameter("streams", "StreamMode") == "ON_DEMAND":
        found: dict[str, Any] = context.client("kinesis").describe_limits()
        used, limit = found["OnDemandStreamCount"], found["OnDemandStreamCountLimit"]
        remedy = '[parameters] StreamMode = "PROVISIONED", or ask AWS for more on-demand streams'
        yield _result(
            "on-demand streams", used, limit, _resources(context, "streams", "AWS::Kinesis::Stream"), remedy
        )


def _databases(context: Context) -> Iterator[Result]:
    if context.creates("source"):
        quotas = context.client("rds").describe_account_attributes()["AccountQuotas"]
        for each in quotas:
            if each["AccountQuotaName"] == "DBInstances":
                remedy = "remove a database, or ask AWS for more (Service Quotas, Amazon RDS, DB instances)"
                yield _result("databases", each["Used"], each["Max"], 1, remedy)


def _roles(context: Context) -> Iterator[Result]:
    wanted = sum(
        _resources(context, part, "AWS::IAM::Role")
        for part in ("roles", "databricks")
        if context.creates(part)
    )
    if wanted:
        summary = context.client("iam").get_account_summary()["SummaryMap"]
        remedy = "remove roles, or ask AWS for more (Service Quotas, IAM, Roles per account)"
        yield _result("IAM roles", summary["Roles"], summary["RolesQuota"], wanted, remedy)


def _resources(context: Context, part: str, kind: str) -> int:
    return sum(each["Type"] == kind for each in context.template(part)["Resources"].values())


CHECKS = {
    **{quota.thing: _check(quota) for quota in QUOTAS},
    "on-demand streams": _streams,
    "databases": _databases,
    "IAM roles": _roles,
}
