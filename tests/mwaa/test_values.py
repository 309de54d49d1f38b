"""What a deployment asks AWS for, so that templates get the same values as long as nothing has changed."""

import json
import random
from dataclasses import replace
from unittest import mock

import pytest

from mwaa.deployment import NEWEST_IMAGE, Deployment
from mwaa.errors import SettingError
from mwaa.settings import Settings

BROKERS = [f"b-{each}.c.kafka.us-east-1.amazonaws.com:9098" for each in (1, 2, 3)]


class Aws:
    """The services that are asked, with stacks of these outputs and parameters."""

    def __init__(self, outputs, given=()):
        self.outputs, self.given = outputs, dict(given)
        self.brokers = BROKERS

    def client(self, service):
        return mock.Mock(
            name=service, **{"get_parameter": self._image, "get_bootstrap_brokers": self._brokers}
        )

    def _image(self, Name):
        assert Name == NEWEST_IMAGE
        return {"Parameter": {"Value": "ami-newest"}}

    def _brokers(self, ClusterArn):
        assert ClusterArn == "arn:cluster"
        return {"BootstrapBrokerStringSaslIam": ",".join(random.sample(self.brokers, len(self.brokers)))}


def values(aws, built, settings):
    deployment = Deployment(settings, aws.client, {}, built, lambda line: None, lambda question: "")
    deployment.account = "123456789012"
    deployment.stacks = mock.Mock(
        outputs=lambda part: aws.outputs.get(part, {}), parameters=lambda part: aws.given.get(part, {})
    )
    return deployment.values()


@pytest.fixture
def few():
    return Settings(parts=("kafka", "proxy"))


CLUSTER = {"kafka": {"KafkaClusterArn": "arn:cluster"}}


def test_the_brokers_order_changes_nothing(built, few):
    """Another text would roll the proxy's machines and make the connector anew."""
    found = {values(Aws(CLUSTER), built, few)["KafkaBootstrap"] for _ in range(30)}
    assert found == {",".join(BROKERS)}


@pytest.mark.parametrize("answered", [1, 2])
def test_a_broker_that_is_not_named_for_once_changes_nothing(built, few, answered):
    aws = Aws(CLUSTER, {"proxy": {"KafkaBootstrap": ",".join(BROKERS)}})
    aws.brokers = BROKERS[:answered]
    assert values(aws, built, few)["KafkaBootstrap"] == ",".join(BROKERS)


def test_another_cluster_s_brokers_are_a_change(built, few):
    aws = Aws(CLUSTER, {"proxy": {"KafkaBootstrap": "b-1.before:9098,b-2.before:9098,b-3.before:9098"}})
    assert values(aws, built, few)["KafkaBootstrap"] == ",".join(BROKERS)


def test_the_image_is_the_newest_once_and_then_the_one_in_use(built, few):
    assert values(Aws({}), built, few)["ProxyImage"] == "ami-newest"
    used = {"proxy": {"ProxyImageId": "ami-used"}}
    assert values(Aws(used), built, few)["ProxyImage"] == "ami-used"
    named = replace(few, parameters={"ProxyImage": "ami-named"})
    assert values(Aws(used), built, named)["ProxyImage"] == "ami-named"
    assert "ProxyImage" not in values(Aws({}), built, replace(few, parts=("kafka",)))


def test_the_streams_have_a_worker_more_than_the_batch():
    values = Settings(service_credential="kinesis").values("123456789012")
    clusters = {name: json.loads(values[name])["new_cluster"] for name in ("Compute", "StreamCompute")}
    assert {name: cluster.pop("num_workers") for name, cluster in clusters.items()} == {
        "Compute": 1,
        "StreamCompute": 2,
    }
    assert clusters["Compute"] == clusters["StreamCompute"]
    assert clusters["Compute"]["data_security_mode"] == "SINGLE_USER"
    assert values["ServiceCredential"] == "kinesis"


def test_the_streams_log_in_one_way():
    with pytest.raises(SettingError, match="secret_scope and service_credential exclude each other"):
        Settings(service_credential="kinesis", secret_scope="aws")
