"""CloudFormation's ways that the stand-in does not have, by a client that has them."""

import itertools

import pytest

from mwaa import stacks
from mwaa.errors import StackError
from mwaa.settings import PARTS, Settings
from mwaa.stacks import Stacks, parameters_of, template_of

VALUES = {
    "Name": "n",
    "Prefix": "n",
    "DataBucket": "data",
    "MwaaBucket": "mwaa",
    "S3SinkKey": "artefacts/s3_sink-0123.zip",
    "ConnectorLocation": "s3://mwaa/templates/connector-0123.json",
    "ConnectRoleArn": "arn:aws:iam::000000000000:role/n-connect",
    "KafkaBootstrap": "b-1:9098",
    "PrivateSubnetIds": "subnet-1",
    "ConnectSecurityGroupId": "sg-1",
}


class CloudFormation:
    """A stack whose status and events come late, as they may on AWS.

    :param changes: the resource changes that a change set has.
    """

    def __init__(self, changes, late=2):
        self.calls = []
        self._changes = changes
        self._late = late
        self._status, self._events = "CREATE_COMPLETE", ["first"]
        self._coming = []

    def create_change_set(self, ChangeSetType, **_):
        self.calls.append(f"change set {ChangeSetType}")
        if ChangeSetType == "CREATE":
            self._status = "REVIEW_IN_PROGRESS"
        return {"Id": "a-change-set"}

    def describe_change_set(self, **_):
        return {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": each} for each in self._changes]}

    def execute_change_set(self, **_):
        self.calls.append("execute")
        verb = "CREATE" if self._status == "REVIEW_IN_PROGRESS" else "UPDATE"
        self._begin(f"{verb}_IN_PROGRESS", f"{verb}_COMPLETE")

    def delete_change_set(self, **_):
        self.calls.append("drop")

    def delete_stack(self, **_):
        self.calls.append("delete")
        self._begin("DELETE_IN_PROGRESS", "DELETE_COMPLETE")

    def describe_stacks(self, **_):
        if self._coming and (news := next(self._coming, None)):
            self._status = news
            self._events.insert(0, f"{len(self._events)}")
        return {"Stacks": [{"StackStatus": self._status, "StackId": "id"}]}

    def describe_stack_events(self, **_):
        return {
            "StackEvents": [
                {"EventId": each, "ResourceStatus": "UPDATE_IN_PROGRESS", "LogicalResourceId": "X"}
                for each in self._events
            ]
        }

    def get_paginator(self, name):
        """Return what gives the answer in pages of one, the newest first, as AWS does with pages of a hundred."""
        answer = getattr(self, f"every_page_of_{name}", getattr(self, name))

        class Pages:
            def paginate(self, **arguments):
                ((key, found),) = answer(**arguments).items()
                yield from ({key: [each]} for each in found)

        return Pages()

    def _begin(self, *statuses):
        self._coming = itertools.chain([None] * self._late, statuses)


def connector(replacement, name):
    return {
        "Action": "Modify",
        "LogicalResourceId": "Connector",
        "ResourceType": "AWS::KafkaConnect::Connector",
        "Replacement": replacement,
        "Details": [{"Target": {"Attribute": "Properties", "Name": name}}],
    }


def made(client):
    return Stacks(client, Settings(name="nn").stack, lambda line: None)


def test_the_values_of_these_tests_are_those_of_the_template():
    assert set(VALUES) <= set(template_of("connect")["Parameters"])
    parameters_of("connect", VALUES)


@pytest.mark.parametrize("replacement", ["True", "Conditional"])
def test_a_connector_is_removed_before_it_is_made_anew(replacement):
    """CloudFormation would make the new one first, under a name that is taken."""
    client = CloudFormation([connector(replacement, "Plugins")])
    change = made(client).plan("connect", VALUES)
    assert change.action == "renew"
    assert change.lines[0] == "! nn-connect is removed and made anew: its name is taken until it is gone"
    made(client).drop(change)
    made(client).apply(change, VALUES)
    assert client.calls == ["change set UPDATE", "drop", "delete", "change set CREATE", "execute"]


def test_a_connector_that_can_be_changed_is_changed():
    client = CloudFormation([connector("False", "ConnectorConfiguration")])
    change = made(client).plan("connect", VALUES)
    assert change.action == "update"
    made(client).apply(change, VALUES)
    assert client.calls == ["change set UPDATE", "execute"]


def test_a_status_from_before_is_not_taken_for_the_outcome():
    client = CloudFormation([], late=3)
    change = made(client).plan("connect", VALUES)
    made(client).apply(change, VALUES)
    assert client._status == "UPDATE_COMPLETE"
    assert made(client).delete("connect")
    assert client._status == "DELETE_COMPLETE"


def test_a_stack_without_news_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(stacks, "SLOWEST_NEWS_SECONDS", 0.1)
    client = CloudFormation([], late=0)
    client._begin = lambda *statuses: setattr(client, "_status", "UPDATE_COMPLETE")
    made(client).apply(made(client).plan("connect", VALUES), VALUES)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("ROLLBACK_COMPLETE", "run this again: what failed is removed and made anew."),
        ("UPDATE_ROLLBACK_COMPLETE", "What was there before is back. Mend the cause and run this again."),
        ("UPDATE_ROLLBACK_FAILED", "choose 'Continue update rollback' in the CloudFormation console"),
    ],
)
def test_a_stack_that_failed_says_why_and_what_to_do(status, says):
    """A permission that is missing shows only here: CloudFormation acts with the person's own."""

    class Refused(CloudFormation):
        def _begin(self, *statuses):
            super()._begin("UPDATE_IN_PROGRESS", status)

        def describe_stack_events(self, **_):
            events = super().describe_stack_events()
            refusal = {
                "ResourceStatus": "UPDATE_FAILED",
                "ResourceStatusReason": "API: s3:PutBucket Access Denied",
            }
            return {"StackEvents": [{**each, **refusal} for each in events["StackEvents"]]}

    client = Refused([connector("False", "Capacity")])
    with pytest.raises(StackError) as caught:
        made(client).apply(made(client).plan("connect", VALUES), VALUES)
    assert f"Stack nn-connect is in {status}: X: API: s3:PutBucket Access Denied." in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("UPDATE_ROLLBACK_FAILED", "choose 'Continue update rollback' in the CloudFormation console"),
        ("DELETE_FAILED", "finish it with: python -m mwaa destroy"),
    ],
)
def test_a_stack_that_waits_for_a_person_says_what_to_do(status, says):
    client = CloudFormation([])
    client._status = status
    with pytest.raises(StackError, match=f"is in {status}: .*{says}"):
        made(client).plan("connect", VALUES)
    assert client.calls == []


def test_a_stack_in_rollback_is_shown_with_its_reason_and_made_anew():
    client = CloudFormation([])
    client._status = "ROLLBACK_COMPLETE"
    change = made(client).plan("connect", VALUES)
    assert change.action == "create"
    assert change.lines[0].startswith("! the stack is in ROLLBACK_COMPLETE (")
    made(client).apply(change, VALUES)
    assert client.calls == ["delete", "change set CREATE", "execute"]


def event(number, kind, status, reason="", name="X"):
    return {
        "EventId": str(number),
        "ResourceType": kind,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "LogicalResourceId": name,
    }


def test_the_reason_is_the_first_failure_of_the_last_operation_whatever_the_page():
    """A page holds 100 events: a network that rolls back has more, and an earlier operation may have failed too."""
    stack, other = "AWS::CloudFormation::Stack", "AWS::EC2::VPC"
    events = [
        event(0, stack, "REVIEW_IN_PROGRESS"),
        event(1, stack, "CREATE_IN_PROGRESS"),
        event(2, other, "CREATE_FAILED", "what was wrong last week"),
        event(3, stack, "UPDATE_IN_PROGRESS"),
        event(4, other, "UPDATE_FAILED", "the cause", "Cause"),
        *(event(5 + each, other, "UPDATE_FAILED", "a consequence") for each in range(200)),
        event(300, stack, "UPDATE_ROLLBACK_IN_PROGRESS"),
        event(301, stack, "UPDATE_ROLLBACK_FAILED"),
    ]
    client = CloudFormation([])
    client._status = "UPDATE_ROLLBACK_FAILED"
    client.every_page_of_describe_stack_events = lambda **_: {"StackEvents": events[::-1]}
    client.describe_stack_events = lambda **_: {"StackEvents": events[::-1][:100]}
    with pytest.raises(StackError, match=r"is in UPDATE_ROLLBACK_FAILED: Cause: the cause\. To go on"):
        made(client).plan("connect", VALUES)


def test_every_event_since_the_last_one_is_told():
    told = []
    events = [event(each, "AWS::EC2::VPC", "CREATE_COMPLETE", name=f"R{each}") for each in range(250, -1, -1)]
    client = CloudFormation([])
    client.every_page_of_describe_stack_events = lambda **_: {"StackEvents": events}
    client.describe_stack_events = lambda **_: {"StackEvents": events[:100]}
    found = Stacks(client, Settings(name="nn").stack, told.append)
    assert found._tell_events("id", "100") == "250"
    assert told == [f"  create_complete  R{each}" for each in range(101, 251)]


def test_every_reason_for_which_a_change_set_is_refused_is_told():
    class Refused(CloudFormation):
        def describe_change_set(self, **_):
            return {"Status": "FAILED", "StatusReason": "See DescribeEvents."}

        def describe_events(self, **_):
            return {
                "OperationEvents": [
                    {
                        "EventType": "VALIDATION_ERROR",
                        "LogicalResourceId": each,
                        "ValidationStatusReason": "no",
                    }
                    for each in "AB"
                ]
            }

    with pytest.raises(StackError, match="A: no; B: no"):
        made(Refused([])).plan("connect", VALUES)


def test_what_costs_much_comes_after_all_that_can_fail_for_cents():
    assert set(PARTS[-5:]) == {"kafka", "proxy", "connect", "alarms", "environment"}
    assert PARTS[-1] == "environment"


def test_a_part_that_takes_what_comes_later_is_deployed_again_and_deleted_first():
    assert {part: stacks.dependents(part) for part in PARTS if stacks.dependents(part)} == {"proxy": ["api"]}
    order = stacks.teardown(PARTS)
    assert sorted(order) == sorted(PARTS)
    for part in PARTS:
        outputs = template_of(part).get("Outputs", {}).keys()
        takers = [each for each in PARTS if outputs & template_of(each).get("Parameters", {}).keys()]
        assert all(order.index(each) < order.index(part) for each in takers), part
    assert stacks.teardown(["storage", "proxy"]) == ["proxy", "storage"]


def test_the_order_of_parts_in_a_file_does_not_matter():
    assert Settings.of({"parts": ["alarms", "api", "storage"]}).parts == ("storage", "api", "alarms")
