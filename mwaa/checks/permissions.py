"""What whoever deploys may do, as IAM simulates it, and the roles that services make for themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from botocore.exceptions import ClientError

from mwaa.checks.report import Context, Result, missing, ok, refused_as, unseen

# What a deployment needs to create a part, by the resource. The calls of CloudFormation are those that the types'
# schemas name for creating (tests/mwaa/test_checks.py holds these lists against them), without the ones for features
# that no template uses; others are made by mwaa itself.
ROLES = "arn:aws:iam::{account}:role/{name}-*"
PROFILES = "arn:aws:iam::{account}:instance-profile/{name}-*"
LOGS = "arn:aws:logs:{region}:{account}:log-group:/{name}/*"
ALARMS = "arn:aws:cloudwatch:{region}:{account}:alarm:{name}-*"
SECRETS = "arn:aws:secretsmanager:{region}:{account}:secret:{name}/connections/*"
DELIVER_LOGS = ("logs:CreateLogDelivery", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies")
Needs = dict[str, tuple[str, ...]]
NEEDS: dict[str, Needs] = {
    "storage": {
        "arn:aws:s3:::{data_bucket}": (
            *("s3:CreateBucket", "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration"),
            *("s3:PutBucketPublicAccessBlock", "s3:PutBucketVersioning", "s3:PutBucketOwnershipControls"),
            *("s3:ListBucket", "s3:PutBucketPolicy", "s3:GetBucketPolicy", "s3:ListBucketVersions"),
        ),
        "arn:aws:s3:::{mwaa_bucket}/*": (
            "s3:PutObject",
            "s3:GetObject",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
        ),
    },
    "roles": {
        ROLES: ("iam:CreateRole", "iam:GetRole", "iam:PutRolePolicy", "iam:GetRolePolicy", "iam:PassRole"),
        PROFILES: ("iam:CreateInstanceProfile", "iam:GetInstanceProfile", "iam:AddRoleToInstanceProfile"),
    },
    "streams": {
        "arn:aws:kinesis:{region}:{account}:stream/streaming-{prefix}-*": (
            *("kinesis:CreateStream", "kinesis:DescribeStreamSummary", "kinesis:StartStreamEncryption"),
            "kinesis:IncreaseStreamRetentionPeriod",
        ),
    },
    "network": {
        "*": (
            *("ec2:CreateVpc", "ec2:ModifyVpcAttribute", "ec2:DescribeVpcs", "ec2:CreateTags"),
            *("ec2:CreateSubnet", "ec2:DescribeSubnets", "ec2:CreateRouteTable", "ec2:AssociateRouteTable"),
            *(
                "ec2:CreateRoute",
                "ec2:DescribeRouteTables",
                "ec2:CreateVpcEndpoint",
                "ec2:DescribeVpcEndpoints",
            ),
            *("ec2:AllocateAddress", "ec2:DescribeAddresses", "ec2:CreateInternetGateway"),
            *("ec2:AttachInternetGateway", "ec2:CreateNatGateway", "ec2:DescribeNatGateways"),
            *("ec2:CreateSecurityGroup", "ec2:DescribeSecurityGroups", "ec2:AuthorizeSecurityGroupIngress"),
            *("ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupEgress"),
        ),
    },
    "api": {
        "arn:aws:apigateway:{region}::/restapis": ("apigateway:GET", "apigateway:POST"),
        "arn:aws:apigateway:{region}::/restapis/*": (
            *("apigateway:GET", "apigateway:POST", "apigateway:PUT", "apigateway:PATCH"),
            "apigateway:UpdateRestApiPolicy",
        ),
        LOGS: ("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:DescribeLogGroups"),
        "*": DELIVER_LOGS,
        ROLES: ("iam:PutRolePolicy", "iam:PassRole"),
    },
    "secrets": {
        SECRETS: (
            *("secretsmanager:CreateSecret", "secretsmanager:DescribeSecret"),
            *("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
        ),
    },
    "databricks": {
        ROLES: ("iam:CreateRole", "iam:GetRole", "iam:PutRolePolicy", "iam:GetRolePolicy", "iam:PassRole"),
        PROFILES: ("iam:CreateInstanceProfile", "iam:GetInstanceProfile", "iam:AddRoleToInstanceProfile"),
    },
    "source": {
        "*": (
            *("rds:CreateDBInstance", "rds:DescribeDBInstances", "rds:CreateDBSubnetGroup"),
            *("rds:DescribeDBSubnetGroups", "rds:CreateDBParameterGroup", "rds:ModifyDBParameterGroup"),
            *(
                "rds:DescribeDBParameterGroups",
                "rds:DescribeDBParameters",
                "rds:DescribeEngineDefaultParameters",
            ),
            *("ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeVpcs"),
            "secretsmanager:GetRandomPassword",
        ),
        SECRETS: (
            *("secretsmanager:CreateSecret", "secretsmanager:DescribeSecret"),
            *("secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"),
        ),
    },
    "kafka": {
        "*": (
            *("kafka:CreateCluster", "kafka:DescribeCluster", "kafka:CreateConfiguration"),
            *("kafka:CreateClusterV2", "kafka:DescribeClusterV2", "kafka:GetBootstrapBrokers"),
            *("ec2:DescribeSubnets", "ec2:DescribeVpcs", "ec2:DescribeSecurityGroups"),
            *("kms:CreateGrant", "kms:DescribeKey"),
            *DELIVER_LOGS,
        ),
        LOGS: ("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:DescribeLogGroups"),
    },
    "proxy": {
        "*": (
            *("elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:DescribeLoadBalancers"),
            *("elasticloadbalancing:ModifyLoadBalancerAttributes", "elasticloadbalancing:CreateTargetGroup"),
            *(
                "elasticloadbalancing:DescribeTargetGroups",
                "elasticloadbalancing:ModifyTargetGroupAttributes",
            ),
            *("elasticloadbalancing:CreateListener", "elasticloadbalancing:DescribeListeners"),
            *("autoscaling:CreateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup"),
            *("autoscaling:SuspendProcesses", "autoscaling:PutScalingPolicy", "autoscaling:DescribePolicies"),
            *("ec2:CreateLaunchTemplate", "ec2:RunInstances", "ec2:CreateTags", "cloudwatch:PutMetricAlarm"),
            # a VPC link is PrivateLink, which API Gateway makes with the caller's own rights
            *("ec2:CreateVpcEndpointServiceConfiguration", "ec2:DeleteVpcEndpointServiceConfigurations"),
            *("ec2:DescribeVpcEndpointServiceConfigurations", "ec2:ModifyVpcEndpointServicePermissions"),
        ),
        "arn:aws:apigateway:{region}::/vpclinks": ("apigateway:POST", "apigateway:GET"),
        "arn:aws:ssm:{region}::parameter/aws/service/*": ("ssm:GetParameter",),
        LOGS: ("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:DescribeLogGroups"),
        ROLES: ("iam:PassRole",),
    },
    "connect": {
        "*": (
            *("kafkaconnect:CreateConnector", "kafkaconnect:DescribeConnector"),
            *("kafkaconnect:CreateCustomPlugin", "kafkaconnect:DescribeCustomPlugin"),
            *("ec2:CreateNetworkInterface", "ec2:DescribeSubnets", "ec2:DescribeVpcs"),
            "ec2:DescribeSecurityGroups",
            *DELIVER_LOGS,
        ),
        "arn:aws:s3:::{mwaa_bucket}/*": ("s3:GetObject",),
        LOGS: ("logs:CreateLogGroup", "logs:PutRetentionPolicy", "logs:DescribeLogGroups"),
        ROLES: ("iam:PassRole",),
    },
    "alarms": {
        "arn:aws:sns:{region}:{account}:{name}-alarms": (
            *("sns:CreateTopic", "sns:GetTopicAttributes", "sns:SetTopicAttributes", "sns:Subscribe"),
        ),
        ALARMS: ("cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms"),
    },
    "environment": {
        ALARMS: ("cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms"),
        "arn:aws:airflow:{region}:{account}:environment/{name}": (
            *("airflow:CreateEnvironment", "airflow:GetEnvironment"),
        ),
        "*": (
            *(
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
                "ec2:DescribeRouteTables",
            ),
            *("ec2:CreateVpcEndpoint", "ec2:CreateNetworkInterface"),
        ),
        "arn:aws:s3:::{mwaa_bucket}": (
            "s3:GetEncryptionConfiguration",
            "s3:ListBucket",
            "s3:GetBucketLocation",
        ),
        ROLES: ("iam:PassRole",),
    },
}
STACKS: Needs = {
    "arn:aws:cloudformation:{region}:{account}:stack/{name}-*/*": (
        *(
            "cloudformation:CreateChangeSet",
            "cloudformation:DescribeChangeSet",
            "cloudformation:ExecuteChangeSet",
        ),
        *(
            "cloudformation:DeleteChangeSet",
            "cloudformation:DescribeStacks",
            "cloudformation:DescribeStackEvents",
        ),
        *("cloudformation:DescribeEvents", "cloudformation:ListStackResources", "cloudformation:DeleteStack"),
    ),
}


@dataclass(frozen=True)
class ServiceRole:
    """A role that a service makes for itself at its first use in an account, with the right of whoever uses it."""

    part: str
    service: str
    name: str

    @property
    def arn(self) -> str:
        """Its ARN, but for the account."""
        return f"arn:aws:iam::{{account}}:role/aws-service-role/{self.service}/{self.name}"


SERVICE_ROLES = (
    ServiceRole("api", "ops.apigateway.amazonaws.com", "AWSServiceRoleForAPIGateway"),
    ServiceRole("source", "rds.amazonaws.com", "AWSServiceRoleForRDS"),
    ServiceRole("kafka", "kafka.amazonaws.com", "AWSServiceRoleForKafka"),
    ServiceRole("proxy", "elasticloadbalancing.amazonaws.com", "AWSServiceRoleForElasticLoadBalancing"),
    ServiceRole("proxy", "autoscaling.amazonaws.com", "AWSServiceRoleForAutoScaling"),
    ServiceRole("connect", "kafkaconnect.amazonaws.com", "AWSServiceRoleForKafkaConnect"),
    ServiceRole("environment", "airflow.amazonaws.com", "AWSServiceRoleForAmazonMWAA"),
)
LET = "let your role do this (docs/operations.md, The rights of whoever deploys)"


def permissions(context: Context) -> Iterator[Result]:
    """Yield, of each part that would be created, what its creator may not do."""
    principal = context.principal
    wanted = {"stacks": STACKS} | {
        part: NEEDS[part] for part in context.settings.parts if context.creates(part)
    }
    if principal.endswith(":root"):
        yield ok("permissions", "the account's root user, who may do everything")
        return
    for part, needs in wanted.items():
        denied, depends = set[str](), set[str]()
        for resource, actions in needs.items():
            for action, keys in _denied(context, principal, _filled_in(context, resource), actions):
                (depends if keys else denied).add(action)
        thing = f"permissions: {part}"
        if denied:
            yield missing(thing, f"{principal} may not {', '.join(sorted(denied))}", LET)
        elif depends:
            yield unseen(thing, f"conditions of a policy decide on {', '.join(sorted(depends))}", LET)
        else:
            yield ok(thing, "allowed")


def service_roles(context: Context) -> Iterator[Result]:
    """Yield, of each role that a service makes for itself, whether it is there or may be made."""
    for role in SERVICE_ROLES:
        if not context.creates(role.part):
            continue
        try:
            context.client("iam").get_role(RoleName=role.name)
        except ClientError as error:
            if not refused_as(error, "NoSuchEntity", "NoSuchEntityException"):
                raise
            yield _to_be_made(context, role)
        else:
            yield ok(f"role of {role.service}", role.name)


def _to_be_made(context: Context, role: ServiceRole) -> Result:
    thing, principal = f"role of {role.service}", context.principal
    action = "iam:CreateServiceLinkedRole"
    resource, entries = _filled_in(context, role.arn), {"iam:AWSServiceName": role.service}
    if principal.endswith(":root") or not list(_denied(context, principal, resource, (action,), entries)):
        return ok(thing, f"{role.name} will be made at the first use")
    return missing(
        thing,
        f"there is no {role.name}, and {principal} may not {action}",
        f"an administrator: aws iam create-service-linked-role --aws-service-name {role.service}",
    )


def workspace_role(context: Context) -> Iterator[Result]:
    """Yield whether the role is there that the profile's right is given to."""
    if "databricks" not in context.settings.parts:
        return
    name = context.parameter("databricks", "WorkspaceRoleName")
    if not name:
        return
    try:
        context.client("iam").get_role(RoleName=name)
    except ClientError as error:
        if not refused_as(error, "NoSuchEntity", "NoSuchEntityException"):
            raise
        remedy = "[parameters] WorkspaceRoleName: the role in this account that the workspace was made with"
        yield missing("role of the workspace", f"there is no role {name}", remedy)
    else:
        yield ok("role of the workspace", name)


def _denied(
    context: Context,
    principal: str,
    resource: str,
    actions: tuple[str, ...],
    entries: dict[str, str] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Yield each action that is not allowed, with the keys of conditions that the simulation has no value for."""
    known = {"aws:RequestedRegion": context.settings.region, **(entries or {})}
    pages = (
        context
        .client("iam")
        .get_paginator("simulate_principal_policy")
        .paginate(
            PolicySourceArn=principal,
            ActionNames=list(actions),
            ResourceArns=[resource],
            ContextEntries=[
                {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
                for key, value in known.items()
            ],
        )
    )
    for page in pages:
        for each in page["EvaluationResults"]:
            if each["EvalDecision"] != "allowed":
                yield each["EvalActionName"], each.get("MissingContextValues", [])


def _filled_in(context: Context, resource: str) -> str:
    settings, account = context.settings, context.deployment.account
    values = settings.values(account)
    partition = context.client("sts").meta.partition
    return resource.format(
        account=account,
        region=settings.region,
        name=settings.name,
        prefix=settings.prefix,
        data_bucket=values["DataBucketName"],
        mwaa_bucket=values["MwaaBucketName"],
    ).replace("arn:aws:", f"arn:{partition}:", 1)


CHECKS = {
    "permissions": permissions,
    "service-linked roles": service_roles,
    "role of the workspace": workspace_role,
}
