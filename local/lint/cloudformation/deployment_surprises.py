"""What a template lets the region, the account or the day decide, and what an update of machines forgets."""

from collections.abc import Iterator
from typing import Any, ClassVar

from cfnlint.rules import CloudFormationLintRule, RuleMatch
from cfnlint.template import Template

from local.lint.literals import function_of, resources, walk

CROSS_ZONE = {"Key": "load_balancing.cross_zone.enabled", "Value": "true"}


class ZonesByIndex(CloudFormationLintRule):
    """A zone of an account may lack a service, and a region may have two."""

    id = "E9002"
    shortdesc = "A zone is chosen by its index, and nobody can choose another"
    description = (
        'Let a parameter name the zones: !Select [0, !If [HasZones, !Split [",", !Ref Zones], !GetAZs ""]]'
    )
    source_url = "https://docs.aws.amazon.com/msk/latest/developerguide/create-cluster.html"
    tags: ClassVar[list[str]] = ["ec2"]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:  # type: ignore[override]
        """Yield each index straight into a region's zones."""
        for value, place in walk(cfn.template.get("Resources", {}), ("Resources",)):
            name, argument = function_of(value)
            if name == "Fn::Select" and function_of(argument[1])[0] == "Fn::GetAZs":
                yield RuleMatch(list(place), f"{self.shortdesc}. {self.description}")


class CrossZone(CloudFormationLintRule):
    """A network load balancer sends the requests of a zone to targets of that zone, of which there may be none."""

    id = "E9003"
    shortdesc = "A network load balancer leaves zones without a healthy target unanswered"
    description = f"Set its LoadBalancerAttributes: {CROSS_ZONE}"
    source_url = "https://docs.aws.amazon.com/elasticloadbalancing/latest/network/network-load-balancers.html"
    tags: ClassVar[list[str]] = ["elasticloadbalancing"]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:  # type: ignore[override]
        """Yield each network load balancer that stays within its zones."""
        for _, properties, place in resources(cfn.template, "AWS::ElasticLoadBalancingV2::LoadBalancer"):
            attributes = properties.get("LoadBalancerAttributes", [])
            if properties.get("Type") == "network" and CROSS_ZONE not in attributes:
                yield RuleMatch(list(place), f"{self.shortdesc}. {self.description}")


class NewestImage(CloudFormationLintRule):
    """CloudFormation looks up such a parameter at every update, so that machines are replaced on no one's order."""

    id = "E9004"
    shortdesc = "An image is the newest of the day, so that any update may replace the machines"
    description = "Take an AWS::EC2::Image::Id; the deployment looks the newest up once."
    source_url = "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-supplied-parameter-types.html"
    tags: ClassVar[list[str]] = ["ec2", "ssm"]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:  # type: ignore[override]
        """Yield each parameter and each reference that is looked up anew."""
        for name, declared in cfn.template.get("Parameters", {}).items():
            if str(declared.get("Type")).startswith("AWS::SSM::Parameter::Value<AWS::EC2::Image::Id"):
                yield RuleMatch(["Parameters", name, "Type"], f"{self.shortdesc}. {self.description}")
        for value, place in walk(cfn.template.get("Resources", {}), ("Resources",)):
            if place[-1] == "ImageId" and "{{resolve:ssm:" in str(value):
                yield RuleMatch(list(place), f"{self.shortdesc}. {self.description}")


class RollingUpdates(CloudFormationLintRule):
    """An update that waits for signals counts machines, which a scaling policy changes meanwhile."""

    id = "E9005"
    shortdesc = "A rolling update waits for signals of machines that a scaling policy adds or ends meanwhile"
    description = "Set SuspendProcesses: [AlarmNotification] in AutoScalingRollingUpdate."
    source_url = (
        "https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-updatepolicy.html"
    )
    tags: ClassVar[list[str]] = ["autoscaling"]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:  # type: ignore[override]
        """Yield each group that has a scaling policy which its updates do not suspend."""
        policies = resources(cfn.template, "AWS::AutoScaling::ScalingPolicy")
        scaled = [properties.get("AutoScalingGroupName") for _, properties, _ in policies]
        for name, _, place in resources(cfn.template, "AWS::AutoScaling::AutoScalingGroup"):
            policy: dict[str, Any] = cfn.template["Resources"][name].get("UpdatePolicy", {})
            update = policy.get("AutoScalingRollingUpdate", {})
            waits = update.get("WaitOnResourceSignals") in {True, "true"}
            if (
                waits
                and {"Ref": name} in scaled
                and "AlarmNotification" not in update.get("SuspendProcesses", [])
            ):
                yield RuleMatch(list(place[:2]), f"{self.shortdesc}. {self.description}")
