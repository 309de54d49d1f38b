"""In which order a deployment does things, by stacks that only remember."""

from unittest import mock

import pytest

from mwaa import connections
from mwaa.deployment import Deployment
from mwaa.settings import Settings
from mwaa.stacks import StackChange


class Stacks:
    """Stacks of which each part's plan is as a test says."""

    def __init__(self, *actions):
        self.actions = dict(actions)
        self.done = []

    def plan(self, part, values):
        action = self.actions.get(part, "none")
        again = part in [change.part for change in self.done]
        return StackChange(part, action, (f"~ {'Stage' if again else 'Api'}",) if action != "none" else ())

    def apply(self, change, values):
        self.done.append(change)

    def outputs(self, part):
        return {}

    def drop(self, change):
        pass


@pytest.fixture
def deploy(built, somebody, monkeypatch):
    def run(stacks, parts, answer="yes"):
        person = somebody(answer)
        settings = Settings(name="order", parts=parts)
        deployment = Deployment(settings, mock.Mock(), {}, built, person.say, person.ask)
        deployment.stacks, deployment.account = stacks, "123456789012"
        deployment.values = lambda: {"Region": "us-east-1"}
        monkeypatch.setattr(connections, "Secrets", mock.Mock())
        monkeypatch.setattr(
            deployment, "_put_connections", lambda: stacks.done.append(StackChange("written", ""))
        )
        deployment.deploy()
        return person, [change.part for change in stacks.done]

    return run


def test_the_api_is_deployed_before_the_proxy_and_again_after_it(deploy):
    """What CloudFormation refuses of the API shows before a cluster is paid for."""
    stacks = Stacks(("api", "create"), ("kafka", "create"), ("proxy", "create"))
    person, done = deploy(stacks, ("api", "kafka", "proxy"))
    assert done == ["api", "kafka", "proxy", "api"]
    assert len(person.asked) == 1  # a new stack may become whatever it becomes


def test_without_an_api_the_proxy_is_the_end_of_it(deploy):
    assert deploy(Stacks(("kafka", "create"), ("proxy", "create")), ("kafka", "proxy"))[1] == [
        "kafka",
        "proxy",
    ]


def test_connections_are_written_again_once_there_are_brokers(deploy):
    stacks = Stacks(("secrets", "create"), ("kafka", "create"))
    assert deploy(stacks, ("secrets", "kafka"))[1] == ["secrets", "written", "kafka", "written"]
    assert deploy(Stacks(("kafka", "create")), ("kafka",))[1] == ["kafka"]
