"""Who logs in to Kafka as whom, by the files that the parts read."""

import json

from local.stack import configure, settings


def test_no_two_users_of_kafka_share_a_password_and_each_part_has_its_own(tmp_path):
    stack = settings.load_or_create(tmp_path / "home")
    configure.write_all(stack)
    kafka = {name: value for name, value in stack.credentials.items() if name.startswith("kafka_")}
    assert len(set(kafka.values())) == len(kafka) == 5
    held = {
        "server.properties": set(kafka),
        "connect-distributed.properties": {"kafka_connect_password"},
        "rest_proxy.json": {"kafka_rest_proxy_password"},
        "api_gateway.json": set(),
        "aws.json": set(),
        "databricks.json": set(),
    }
    for name, expected in held.items():
        text = (stack.etc / name).read_text()
        assert {password for password, value in kafka.items() if value in text} == expected, name
    controller = next(
        line
        for line in (stack.etc / "server.properties").read_text().splitlines()
        if line.startswith("listener.name.controller.")
    )
    assert {name for name, value in kafka.items() if value in controller} == {"kafka_broker_password"}
    connections = configure.connections(stack)
    assert connections["pinterest_kafka"]["extra_dejson"]["sasl.password"] == kafka["kafka_airflow_password"]


def test_the_proxy_serves_the_topics_of_the_posts_alone(tmp_path):
    stack = settings.load_or_create(tmp_path / "home")
    configure.write_all(stack)
    assert json.loads((stack.etc / "rest_proxy.json").read_text())["topics"] == [
        "pinterest.pin",
        "pinterest.geo",
        "pinterest.user",
    ]
