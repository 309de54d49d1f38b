"""What the region and the account offer: zones, machines, versions, and API Gateway's logging role."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError

from mwaa.checks.report import Context, Result, missing, ok, refused_as, unseen
from mwaa.deployment import NEWEST_IMAGE

ZONES = 3


def logging_role(context: Context) -> Iterator[Result]:
    """Yield whether API Gateway may write logs: a stage that logs is refused without a role of the account's."""
    if "api" not in context.settings.parts:
        return
    thing = "API Gateway's logging role"
    role = context.client("apigateway").get_account().get("cloudwatchRoleArn")
    if role:
        yield ok(thing, role)
    else:
        yield missing(
            thing,
            f"the account has none in {context.settings.region}",
            "create a role that apigateway.amazonaws.com may assume, with the policy "
            "service-role/AmazonAPIGatewayPushToCloudWatchLogs, and: aws apigateway update-account "
            "--patch-operations op=replace,path=/cloudwatchRoleArn,value=ARN",
        )


def zones(context: Context) -> Iterator[Result]:
    """Yield whether there are three zones for the subnets."""
    if not context.creates("network"):
        return
    zones, chosen = _zones(context)
    named = context.parameter("network", "Zones")
    region = context.settings.region
    if unknown := sorted(set(chosen) - set(zones)):
        found = f"{region} has no zone {', '.join(unknown)} for this account"
        yield missing("zones", found, f"[parameters] Zones = {_toml(zones[:ZONES])}")
        return
    if len(set(chosen)) < ZONES:
        has = (
            f"{region} has {len(zones)} zones"
            if not named
            else f"Zones names {', '.join(sorted(set(chosen)))}"
        )
        remedy = "choose three different ones" if len(zones) >= ZONES else "choose another region"
        yield missing("zones", f"{has}, and brokers lie in {ZONES}", remedy)
        return
    yield ok("zones", ", ".join(chosen))


def _zones(context: Context) -> tuple[list[str], list[str]]:
    """Return the region's zones, and those of them that the subnets would lie in."""
    filters = [
        {"Name": "zone-type", "Values": ["availability-zone"]},
        {"Name": "opt-in-status", "Values": ["opt-in-not-required", "opted-in"]},
    ]
    found = context.client("ec2").describe_availability_zones(Filters=filters)["AvailabilityZones"]
    zones = sorted(each["ZoneName"] for each in found if each.get("State") == "available")
    named = context.parameter("network", "Zones")
    return zones, named.split(",") if named else zones[:ZONES]


def machines(context: Context) -> Iterator[Result]:
    """Yield whether the zones offer the machines that will run there: a zone without them lacks the service, too."""
    kinds = sorted(_kinds(context))
    if not kinds or not context.creates("network"):
        return
    zones, chosen = _zones(context)
    if not set(chosen) <= set(zones):
        return
    pages = (
        context
        .client("ec2")
        .get_paginator("describe_instance_type_offerings")
        .paginate(LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": kinds}])
    )
    offered = {
        (each["Location"], each["InstanceType"]) for page in pages for each in page["InstanceTypeOfferings"]
    }
    lacking = [f"{zone} has no {kind}" for zone in chosen for kind in kinds if (zone, kind) not in offered]
    if not lacking:
        yield ok("machines in the zones", f"{', '.join(kinds)} in each")
        return
    good = [zone for zone in zones if all((zone, kind) in offered for kind in kinds)]
    remedy = f"[parameters] Zones = {_toml(good[:ZONES])}"
    if len(good) < ZONES:
        remedy = "choose another region, or [parameters] BrokerType, ProxyInstanceType"
    yield missing("machines in the zones", "; ".join(lacking), remedy)


def _kinds(context: Context) -> Iterator[str]:
    if context.creates("kafka") and context.parameter("kafka", "KafkaMode") == "provisioned":
        yield context.parameter("kafka", "BrokerType").split(".", 1)[1]  # kafka.m7g.large runs on m7g.large
    if context.creates("proxy"):
        yield context.parameter("proxy", "ProxyInstanceType")


def endpoints(context: Context) -> Iterator[Result]:
    """Yield whether the zones have the endpoints that take the place of a way out."""
    if not context.creates("network") or context.parameter("network", "WayOut") != "none":
        return
    resources = context.template("network")["Resources"].values()
    properties = [each["Properties"] for each in resources if each["Type"] == "AWS::EC2::VPCEndpoint"]
    wanted = sorted(
        each["ServiceName"].replace("${AWS::Region}", context.settings.region)
        for each in properties
        if each["VpcEndpointType"] == "Interface"
    )
    filters = [{"Name": "service-name", "Values": wanted}]
    found = context.client("ec2").describe_vpc_endpoint_services(Filters=filters)["ServiceDetails"]
    there = {each["ServiceName"]: set(each["AvailabilityZones"]) for each in found}
    zones, chosen = _zones(context)
    lacking = [
        f"{zone} has no {name}" for name in wanted for zone in chosen[:2] if zone not in there.get(name, ())
    ]
    if not lacking:
        yield ok("endpoints in the zones", f"{len(wanted)} in each")
        return
    good = [zone for zone in zones if all(zone in there.get(name, ()) for name in wanted)]
    remedy = f"[parameters] Zones = {_toml(good[:ZONES])}"
    if len(good) < ZONES:
        remedy = 'choose another region, or [parameters] WayOut = "nat"'
    yield missing("endpoints in the zones", "; ".join(lacking), remedy)


def brokers(context: Context) -> Iterator[Result]:
    """Yield what is known of brokers that are too small; MSK lists its types nowhere."""
    kind = context.parameter("kafka", "BrokerType") if context.creates("kafka") else ""
    if kind.startswith("kafka.t3."):
        yield unseen(
            "brokers",
            f"MSK may refuse {kind} for new clusters, and it takes four new IAM connections a second",
            "[parameters] BrokerType, see docs/adr/0035",
        )


def subnets(context: Context) -> Iterator[Result]:
    """Yield whether subnets that exist already lie in as many zones as brokers and workers need."""
    given = context.settings.given
    for name, part, wanted in (
        ("PrivateSubnetIds", "kafka", ZONES),
        ("AirflowSubnetIds", "environment", 2),
    ):
        if name not in given or not context.creates(part):
            continue
        ids = given[name].split(",")
        try:
            found = context.client("ec2").describe_subnets(SubnetIds=ids)["Subnets"]
        except ClientError as error:
            if not refused_as(error, "InvalidSubnetID.NotFound", "InvalidSubnetId.Malformed"):
                raise
            text = error.response["Error"].get("Message", "")
            yield missing(name, text.rstrip("."), "name subnets of this region and account under [given]")
            continue
        zones = sorted({each["AvailabilityZone"] for each in found})
        if len(zones) == len(ids) == wanted:
            yield ok(name, f"in {', '.join(zones)}")
        else:
            text = f"{len(ids)} subnets in {', '.join(zones)}"
            yield missing(name, text, f"name {wanted} subnets in {wanted} different zones under [given]")


def kafka_version(context: Context) -> Iterator[Result]:
    """Yield whether MSK still creates clusters of the version."""
    if not context.creates("kafka") or context.parameter("kafka", "KafkaMode") != "provisioned":
        return
    wanted = context.parameter("kafka", "KafkaVersion")
    pages = context.client("kafka").get_paginator("list_kafka_versions").paginate()
    offered = sorted(
        each["Version"] for page in pages for each in page["KafkaVersions"] if each["Status"] == "ACTIVE"
    )
    if wanted in offered:
        yield ok("Kafka version", wanted)
    else:
        there = ", ".join(offered) or "none"
        remedy = "[parameters] KafkaVersion: one of those, best one that ends in .kraft"
        yield missing(
            "Kafka version", f"{wanted} is not offered in {context.settings.region}; {there} are", remedy
        )


def database(context: Context) -> Iterator[Result]:
    """Yield whether RDS offers the version, and the class for it."""
    if not context.creates("source"):
        return
    rds, wanted = context.client("rds"), context.parameter("source", "DatabaseVersion")
    family = context.template("source")["Resources"]["Settings"]["Properties"]["Family"].removeprefix("mysql")
    found = rds.describe_db_engine_versions(Engine="mysql", EngineVersion=wanted)["DBEngineVersions"]
    versions = [each["EngineVersion"] for each in found if each["EngineVersion"].startswith(family)]
    if not versions:
        there = rds.describe_db_engine_versions(Engine="mysql", EngineVersion=family)["DBEngineVersions"]
        offered = ", ".join(each["EngineVersion"] for each in there) or "none"
        text = f"MySQL {wanted} is not offered; of {family}, {offered}"
        yield missing("database version", text, f'[parameters] DatabaseVersion = "{family}"')
        return
    yield ok("database version", f"MySQL {wanted} ({versions[-1]})")
    kind = context.parameter("source", "DatabaseClass")
    options = rds.describe_orderable_db_instance_options(
        Engine="mysql", EngineVersion=versions[-1], DBInstanceClass=kind, Vpc=True
    )["OrderableDBInstanceOptions"]
    if options:
        yield ok("database class", kind)
    else:
        text = f"{kind} is not offered for MySQL {versions[-1]} in {context.settings.region}"
        yield missing("database class", text, '[parameters] DatabaseClass = "db.t4g.small", or another')


def airflow_version(context: Context) -> Iterator[Result]:
    """Yield whether MWAA is there; which versions it offers is in no answer of its API."""
    if not context.creates("environment"):
        return
    version = context.template("environment")["Resources"]["Environment"]["Properties"]["AirflowVersion"]
    context.client("mwaa").list_environments(MaxResults=1)
    yield unseen(
        "Airflow version",
        "MWAA is in this region, but lists its versions in the console only",
        f"see that {version} is there: Amazon MWAA, Create environment",
    )


def image(context: Context) -> Iterator[Result]:
    """Yield whether there is an image for the proxy's machines."""
    if not context.creates("proxy") or "ProxyImage" in context.settings.parameters:
        return
    try:
        value = context.client("ssm").get_parameter(Name=NEWEST_IMAGE)["Parameter"]["Value"]
    except ClientError as error:
        if not refused_as(error, "ParameterNotFound"):
            raise
        yield missing(
            "image of the proxy", f"there is no {NEWEST_IMAGE}", '[parameters] ProxyImage = "ami-…"'
        )
        return
    yield ok("image of the proxy", value)


def _toml(zones: list[str]) -> str:
    return "[" + ", ".join(f'"{zone}"' for zone in zones) + "]"


CHECKS = {
    "API Gateway's logging role": logging_role,
    "zones": zones,
    "machines in the zones": machines,
    "endpoints in the zones": endpoints,
    "subnets": subnets,
    "brokers": brokers,
    "Kafka version": kafka_version,
    "database version": database,
    "Airflow version": airflow_version,
    "image of the proxy": image,
}
