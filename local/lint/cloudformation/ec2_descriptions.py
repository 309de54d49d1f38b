"""Descriptions of security groups and of their rules."""

import re
from collections.abc import Iterator
from typing import ClassVar

from cfnlint.rules import CloudFormationLintRule, RuleMatch
from cfnlint.template import Template

from local.lint.literals import literals, resources, walk

# botocore, ec2, CreateSecurityGroup and UserIdGroupPair; IpRange takes & too, but a rule may have either.
ALLOWED = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=;{}!$*]{0,255}")


class Ec2Descriptions(CloudFormationLintRule):
    """EC2 refuses an apostrophe, and with it the whole stack."""

    id = "E9001"
    shortdesc = "A description of a security group or of its rule holds what EC2 refuses"
    description = "EC2 takes up to 255 of a-z A-Z 0-9, space and ._-:/()#,@[]+=;{}!$*"
    source_url = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_UserIdGroupPair.html"
    tags: ClassVar[list[str]] = ["ec2"]

    def match(self, cfn: Template) -> Iterator[RuleMatch]:  # type: ignore[override]
        """Yield each description that EC2 refuses."""
        for _, properties, place in resources(cfn.template, "AWS::EC2::SecurityGroup"):
            for value, inner in walk(properties, place):
                if inner[-1] not in {"Description", "GroupDescription"}:
                    continue
                for text, where in literals(cfn.template, value, inner):
                    if not ALLOWED.fullmatch(str(text)):
                        yield RuleMatch(
                            list(where), f"EC2 refuses this description: {text!r}. {self.description}"
                        )
