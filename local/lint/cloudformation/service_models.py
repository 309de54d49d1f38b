"""Values of resources, held against the models of the AWS calls that CloudFormation makes of them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import botocore.session
from botocore.model import ListShape, MapShape, Shape, StructureShape
from cfnlint.rules import CloudFormationLintRule, RuleMatch
from cfnlint.template import Template

from local.lint.literals import Place, function_of, literals, resources

# Type of a resource -> the calls that take its properties: service, operation, and at which property and at which
# member of the call they begin where that is not the top.
Call = tuple[str, str, str, str]
CALLS: dict[str, tuple[Call, ...]] = {
    "AWS::ApiGateway::Deployment": (("apigateway", "CreateDeployment", "", ""),),
    "AWS::ApiGateway::RestApi": (("apigateway", "CreateRestApi", "", ""),),
    "AWS::ApiGateway::Stage": (("apigateway", "CreateStage", "", ""),),
    "AWS::ApiGateway::VpcLink": (("apigateway", "CreateVpcLink", "", ""),),
    "AWS::AutoScaling::AutoScalingGroup": (("autoscaling", "CreateAutoScalingGroup", "", ""),),
    "AWS::AutoScaling::ScalingPolicy": (("autoscaling", "PutScalingPolicy", "", ""),),
    "AWS::CloudWatch::Alarm": (("cloudwatch", "PutMetricAlarm", "", ""),),
    "AWS::EC2::EIP": (("ec2", "AllocateAddress", "", ""),),
    "AWS::EC2::InternetGateway": (),
    "AWS::EC2::LaunchTemplate": (("ec2", "CreateLaunchTemplate", "", ""),),
    "AWS::EC2::NatGateway": (("ec2", "CreateNatGateway", "", ""),),
    "AWS::EC2::Route": (("ec2", "CreateRoute", "", ""),),
    "AWS::EC2::RouteTable": (),
    "AWS::EC2::SecurityGroup": (("ec2", "CreateSecurityGroup", "", ""),),
    "AWS::EC2::SecurityGroupIngress": (("ec2", "AuthorizeSecurityGroupIngress", "", ""),),
    "AWS::EC2::Subnet": (("ec2", "CreateSubnet", "", ""),),
    "AWS::EC2::SubnetRouteTableAssociation": (),
    "AWS::EC2::VPC": (("ec2", "CreateVpc", "", ""),),
    "AWS::EC2::VPCEndpoint": (("ec2", "CreateVpcEndpoint", "", ""),),
    "AWS::EC2::VPCGatewayAttachment": (),
    "AWS::ElasticLoadBalancingV2::Listener": (("elbv2", "CreateListener", "", ""),),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": (
        ("elbv2", "CreateLoadBalancer", "", ""),
        ("elbv2", "ModifyLoadBalancerAttributes", "LoadBalancerAttributes", "Attributes"),
        ("elbv2", "SetSecurityGroups", "", ""),
    ),
    "AWS::ElasticLoadBalancingV2::TargetGroup": (
        ("elbv2", "CreateTargetGroup", "", ""),
        ("elbv2", "ModifyTargetGroupAttributes", "TargetGroupAttributes", "Attributes"),
    ),
    "AWS::IAM::InstanceProfile": (("iam", "CreateInstanceProfile", "", ""),),
    "AWS::IAM::Policy": (("iam", "PutRolePolicy", "", ""),),
    "AWS::IAM::Role": (("iam", "CreateRole", "", ""),),
    "AWS::KafkaConnect::Connector": (("kafkaconnect", "CreateConnector", "", ""),),
    "AWS::KafkaConnect::CustomPlugin": (("kafkaconnect", "CreateCustomPlugin", "", ""),),
    "AWS::Kinesis::Stream": (
        ("kinesis", "CreateStream", "", ""),
        ("kinesis", "CreateStream", "Name", "StreamName"),
        ("kinesis", "StartStreamEncryption", "StreamEncryption", ""),
        ("kinesis", "IncreaseStreamRetentionPeriod", "", ""),
    ),
    "AWS::Logs::LogGroup": (
        ("logs", "CreateLogGroup", "", ""),
        ("logs", "PutRetentionPolicy", "", ""),
    ),
    "AWS::MSK::Cluster": (("kafka", "CreateCluster", "", ""),),
    "AWS::MSK::Configuration": (("kafka", "CreateConfiguration", "", ""),),
    "AWS::MSK::ServerlessCluster": (
        ("kafka", "CreateClusterV2", "", ""),
        ("kafka", "CreateClusterV2", "", "Serverless"),
    ),
    "AWS::MWAA::Environment": (("mwaa", "CreateEnvironment", "", ""),),
    "AWS::RDS::DBInstance": (("rds", "CreateDBInstance", "", ""),),
    "AWS::RDS::DBParameterGroup": (("rds", "CreateDBParameterGroup", "", ""),),
    "AWS::RDS::DBSubnetGroup": (("rds", "CreateDBSubnetGroup", "", ""),),
    "AWS::S3::Bucket": (
        ("s3", "CreateBucket", "BucketName", "Bucket"),
        ("s3", "PutBucketEncryption", "BucketEncryption", "ServerSideEncryptionConfiguration"),
        ("s3", "PutBucketLifecycleConfiguration", "LifecycleConfiguration", "LifecycleConfiguration"),
        ("s3", "PutBucketOwnershipControls", "OwnershipControls", "OwnershipControls"),
        ("s3", "PutBucketVersioning", "VersioningConfiguration", "VersioningConfiguration"),
    ),
    "AWS::S3::BucketPolicy": (("s3", "PutBucketPolicy", "", ""),),
    "AWS::SNS::Subscription": (("sns", "Subscribe", "", ""),),
    "AWS::SNS::Topic": (("sns", "CreateTopic", "TopicName", "Name"),),
    "AWS::SNS::TopicPolicy": (),
    "AWS::SecretsManager::Secret": (
        ("secretsmanager", "CreateSecret", "", ""),
        ("secretsmanager", "GetRandomPassword", "GenerateSecretString", ""),
    ),
    "AWS::SecretsManager::SecretTargetAttachment": (),
}
# Names that CloudFormation spells otherwise than the service, lower-case.
SPELLED = {
    "serversideencryptionconfiguration": "rules",
    "serversideencryptionbydefault": "applyserversideencryptionbydefault",
}


class ServiceModels(CloudFormationLintRule):
    """CloudFormation's schemas know fewer enumerations, patterns and bounds than the services."""

    id = "E9006"
    shortdesc = "The service that a resource belongs to refuses a value"
    description = "Enumerations, patterns and bounds of the AWS calls, from botocore's models."
    source_url = "https://github.com/boto/botocore/tree/develop/botocore/data"
    tags: ClassVar[list[str]] = ["botocore"]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:  # type: ignore[override]
        """Yield each value that a service refuses."""
        for name, properties, place in resources(cfn.template, ""):
            kind = cfn.template["Resources"][name].get("Type")
            if kind in CALLS:
                yield from self._match_calls(cfn.template, CALLS[kind], properties, place)
            else:
                where = "local/lint/cloudformation/service_models.py"
                yield RuleMatch(
                    ["Resources", name, "Type"], f"Say which AWS calls take a {kind}: CALLS in {where}."
                )

    def _match_calls(
        self, template: Mapping[str, Any], calls: tuple[Call, ...], properties: Any, place: Place
    ) -> Iterator[RuleMatch]:
        for service, operation, at, member in calls:
            value = properties.get(at) if at else properties
            shape: Any = input_of(service, operation)
            shape = shape.members[member] if member else shape
            where = (*place, at) if at else place
            if value is not None:
                for text, reason, found in refused(template, value, shape, where):
                    yield RuleMatch(list(found), f"{service} refuses {text!r}: {reason}")


@functools.cache
def input_of(service: str, operation: str) -> Shape:
    """Return the shape of a call's input."""
    model = botocore.session.get_session().get_service_model(service)
    return model.operation_model(operation).input_shape


def refused(
    template: Mapping[str, Any], value: Any, shape: Shape, place: Place
) -> Iterator[tuple[Any, str, Place]]:
    """Yield what a shape refuses in a value: it, the reason, and where it stands."""
    for found, where in literals(template, value, place):
        if isinstance(shape, StructureShape) and isinstance(found, Mapping):
            yield from _refused_members(template, found, shape, where)
        elif isinstance(shape, MapShape) and isinstance(found, Mapping):
            for key, each in found.items():
                if function_of({key: each})[0] is None:
                    yield from _refused_scalar(key, shape.key, where)
                    yield from refused(template, each, shape.value, (*where, key))
        elif isinstance(shape, ListShape) and isinstance(found, list):
            for index, each in enumerate(found):
                yield from refused(template, each, shape.member, (*where, index))
        elif isinstance(found, str | int | float):
            yield from _refused_scalar(found, shape, where)


def _refused_members(
    template: Mapping[str, Any], value: Mapping[str, Any], shape: StructureShape, place: Place
) -> Iterator[tuple[Any, str, Place]]:
    members = {name.lower(): member for name, member in shape.members.items()}
    for name, each in value.items():
        member = members.get(name.lower()) or members.get(SPELLED.get(name.lower(), ""))
        if member is not None:
            yield from refused(template, each, member, (*place, name))


def _refused_scalar(value: Any, shape: Shape, place: Place) -> Iterator[tuple[Any, str, Place]]:
    reason = _reason(value, shape)
    if reason:
        yield value, reason, place


def _reason(value: Any, shape: Shape) -> str:
    if shape.type_name == "string":
        return _reason_of_text(str(value), shape)
    if shape.type_name in {"integer", "long"}:
        least, most = shape.metadata.get("min"), shape.metadata.get("max")
        if not re.fullmatch(r"-?\d+", str(value)):
            return "wanted: a whole number"
        if (least is not None and int(value) < least) or (most is not None and int(value) > most):
            return f"wanted: {least} to {most}"
    return ""


def _reason_of_text(text: str, shape: Any) -> str:
    if shape.enum and text not in shape.enum:
        return f"wanted: one of {', '.join(shape.enum)}"
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    if len(text) < least or (most is not None and len(text) > most):
        return f"wanted: {least} to {most} characters"
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(text):
        return f"wanted: {pattern}"
    return ""


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of a model, which is Java's; what Python does not know takes anything."""
    java = {r"\p{L}": "A-Za-z", r"\p{Z}": " ", r"\p{N}": "0-9", r"\p{P}": "!-/:-@", r"\p{S}": "$+<=>^`|~"}
    for theirs, ours in java.items():
        pattern = pattern.replace(theirs, ours)
    try:
        return re.compile(pattern)
    except re.error:
        return re.compile(r"(?s).*")
