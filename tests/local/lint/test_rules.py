"""Our own rules, each on a template of ours with one thing put wrong, and on the templates as they are."""

import subprocess
import sys
from pathlib import Path

import pytest
from cfnlint.api import lint
from cfnlint.config import ManualArgs
from cfnlint.core import get_rules

from local.lint import brokers, clusters

ROOT = Path(__file__).parents[3]
RULES = ROOT / "local" / "lint" / "cloudformation"
TEMPLATES = ROOT / "mwaa" / "cloudformation"


@pytest.fixture(scope="module")
def rules():
    """Only ours: what cfn-lint has by itself is tested where it is made."""
    found = get_rules([str(RULES)], [], ["E9"])
    for rule in [each for each in found.rules if not each.startswith("E9")]:
        del found.rules[rule]
    return found


def found(rules, text):
    config = ManualArgs(regions=["us-east-1"], include_checks=["E9"])
    return [(each.rule.id, each.message, each.linenumber) for each in lint(text, rules, config=config)]


@pytest.mark.parametrize(
    "path", sorted(set(TEMPLATES.glob("*.yaml")) - {TEMPLATES / "openapi.yaml"}), ids=lambda p: p.stem
)
def test_the_templates_are_free_of_all_that(rules, path):
    assert found(rules, path.read_text()) == []


ZONE = '!Select [0, !If [HasZones, !Split [",", !Ref Zones], !GetAZs ""]]'
WRONG = [
    ("network", "the parts of MWAA", "MWAA's own parts", "E9001", "MWAA's own parts"),
    ("network", "the load balancer\n", "the load balancer & no other\n", "E9001", "& no other"),
    ("network", "Description: the REST proxy", "Description: \"the REST proxy \u2013 machines\"", "E9001", "machines"),
    ("network", "GroupDescription: The brokers", "GroupDescription: What's Kafka", "E9001", "What's Kafka"),
    ("network", "Description: the S3 sink", "Description: !Sub ${Name}'s sink", "E9001", "pinterest's sink"),
    ("network", "Description: the S3 sink", f"Description: {'x' * 256}", "E9001", "xxx"),
    ("network", ZONE, "!Select [0, !GetAZs \"\"]", "E9002", "!If [HasZones"),
    ("network", ZONE, "!Select [0, !GetAZs {Ref: \"AWS::Region\"}]", "E9002", "!If [HasZones"),
    ("proxy", "load_balancing.cross_zone.enabled", "ipv6.deny_all_igw_traffic", "E9003", "cross_zone"),
    ("proxy", 'Value: "true"', 'Value: "false"', "E9003", "cross_zone"),
    ("proxy", "AWS::EC2::Image::Id", "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "E9004", "newest"),
    ("proxy", "ImageId: !Ref ProxyImage", "ImageId: '{{resolve:ssm:/aws/al2023}}'", "E9004", "newest"),
    ("proxy", "          - AlarmNotification\n", "          - AZRebalance\n", "E9005", "AlarmNotification"),
    # what botocore's models say of the calls: enumerations, patterns and bounds, in lists, maps and parameters too
    ("environment", "LogLevel: INFO", "LogLevel: TRACE", "E9006", "mwaa refuses 'TRACE': wanted: one of"),
    ("environment", "Default: TUE:03:30", "Default: TUE:03:45", "E9006", "'TUE:03:45': wanted: .*(MON|"),
    ("environment", "PRIVATE_ONLY]", "PRIVATE]", "E9006", "'PRIVATE': wanted: one of PRIVATE_ONLY, PUBLIC_ONLY"),
    ("environment", "pinterest.bucket:", "pinterest.Bucket:", "E9006", "'pinterest.Bucket'"),
    ("environment", '"config_prefix": null', '"config_prefix": "\u00e9"', "E9006", "wanted: [ -~]+"),
    ("environment", "Schedulers: !If [OneContainer, 1, 2]", "Schedulers: !If [OneContainer, 1, two]", "E9006", "'two'"),
    ("kafka", "ClientBroker: TLS", "ClientBroker: TLS_ONLY", "E9006", "kafka refuses 'TLS_ONLY'"),
    ("kafka", "EnhancedMonitoring: DEFAULT", "EnhancedMonitoring: PER_CLUSTER", "E9006", "'PER_CLUSTER'"),
    ("kafka", "Default: 50\n", "Default: 20000\n", "E9006", "wanted: 1 to 16384"),
    ("connect", "AuthenticationType: IAM", "AuthenticationType: SCRAM", "E9006", "'SCRAM'"),
    ("connect", "AllowedValues: [1, 2, 4, 8]", "AllowedValues: [1, 2, 4, 9]", "E9006", "wanted: 1 to 8"),
    ("connect", "!Sub /${Name}/connect", "!Sub /${Name}/con nect", "E9006", "'/pinterest/con nect'"),
    ("proxy", "HealthCheckIntervalSeconds: 10", "HealthCheckIntervalSeconds: 4", "E9006", "wanted: 5 to 300"),
    ("proxy", "PredefinedMetricType: ASG", "PredefinedMetricType: Asg", "E9006", "'AsgAverageCPUUtilization'"),
    ("alarms", "Statistic: Sum", "Statistic: Total", "E9006", "'Total'"),
    ("alarms", "GreaterThanThreshold", "GreaterThan", "E9006", "'GreaterThan'"),
    ("storage", "SSEAlgorithm: AES256", "SSEAlgorithm: AES-256", "E9006", "'AES-256'"),
    ("storage", "AllowedValues: [Enabled, Suspended]", "AllowedValues: [Enabled, Disabled]", "E9006", "'Disabled'"),
    ("streams", "EncryptionType: KMS", "EncryptionType: AES", "E9006", "kinesis refuses 'AES'"),
    ("streams", "Name: !Sub streaming-${Prefix}-pin", "Name: !Sub streaming/${Prefix}/pin", "E9006", "[a-zA-Z0-9_.-]+"),
    ("secrets", "Name: !Sub ${Name}/connections/aws_default", f"Name: {'x' * 513}", "E9006", "1 to 512 characters"),
    ("roles", "Description: The S3 sink in MSK Connect", f"Description: {'x' * 1001}", "E9006", "0 to 1000 characters"),
    ("roles", "RoleName: !Sub ${Name}-mwaa", "RoleName: !Sub ${Name}/mwaa", "E9006", "'pinterest/mwaa'"),
    ("streams", "AWS::Kinesis::Stream", "AWS::Kinesis::StreamConsumer", "E9006", "Say which AWS calls take"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "right", "wrong", "rule", "says"), WRONG)
def test_what_is_put_wrong_is_found(rules, part, right, wrong, rule, says):
    text = (TEMPLATES / f"{part}.yaml").read_text()
    assert right in text
    matches = found(rules, text.replace(right, wrong, 1))
    assert {each[0] for each in matches} == {rule}
    assert says in matches[0][1]
    assert matches[0][2] > 1  # at its place, not at the top of the file


def test_make_lint_runs_them(tmp_path):
    (line,) = [
        line
        for line in (ROOT / "local" / "lint.sh").read_text().splitlines()
        if line.startswith('check "cfn-lint"')
    ]
    command = line.removeprefix('check "cfn-lint" ').replace("$bin", str(Path(sys.executable).parent))
    wrong = tmp_path / "network.yaml"
    wrong.write_text(
        (TEMPLATES / "network.yaml").read_text().replace("the parts of MWAA", "MWAA's own parts")
    )
    script = f"templates=({wrong}); {command}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert 'E9001 EC2 refuses this description: "MWAA\'s own parts"' in done.stdout
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('x = reply["BootstrapBrokerStringSaslIam"]\n', [1]),
        ('y = 1\nx = ",".join(reply["BootstrapBrokerStringTls"].split(","))\n', [2]),
        ('x = reply.get("BootstrapBrokerString", "")\n', [1]),
        ('x = ",".join(sorted(reply["BootstrapBrokerStringSaslIam"].split(",")))\n', []),
        ('x = set(reply.get("BootstrapBrokerString", "").split(","))\n', []),
        ('x = reply["Brokers"]\n', []),
    ],
)
def test_brokers_that_are_handed_on_unsorted_are_found(source, lines):
    assert list(brokers.unsorted(source)) == lines


def test_make_lint_ends_with_an_error_for_unsorted_brokers(tmp_path, capsys):
    assert (
        'check "brokers" $bin/python -m local.lint.brokers plugins mwaa msk\n'
        in (ROOT / "local" / "lint.sh").read_text()
    )
    assert brokers.main([str(ROOT / each) for each in ("plugins", "mwaa", "msk")]) == 0
    (tmp_path / "wrong.py").write_text('x = reply["BootstrapBrokerStringSaslIam"]\n')
    assert brokers.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"{tmp_path}/wrong.py:1: brokers are handed on in the order of one answer: sort them\n"
    )


BARE = "a cluster without data_security_mode has no Unity Catalog: SINGLE_USER is dedicated access mode"
OLD = "18.0.x-scala2.13 is no runtime of long-term support: 18.x-scala2.13"
LTS = '"spark_version": "18.x-scala2.13"'


@pytest.mark.parametrize(
    ("kind", "source", "faults"),
    [
        (".py", f'x = {{{LTS}, "num_workers": 1}}\n', [(1, BARE)]),
        (".py", f'y = 1\nx = {{"new_cluster": {{{LTS}, **more}}}}\n', [(2, BARE)]),
        (".py", 'x = {"new_cluster": {"num_workers": 0}}\n', [(1, BARE)]),
        (".py", 'x = ClusterSpec(spark_version="18.x-scala2.13", num_workers=1)\n', [(1, BARE)]),
        (".py", f"x = json.loads('{{\"new_cluster\": {{{LTS}}}}}')\n", [(1, BARE)]),
        (
            ".py",
            'x = {"spark_version": "18.0.x-scala2.13", "data_security_mode": "SINGLE_USER"}\n',
            [(1, OLD)],
        ),
        (".py", f'x = {{{LTS}, "data_security_mode": "SINGLE_USER"}}\n', []),
        (".py", f'x = {{{LTS}, "policy_id": "P"}}\n', []),
        (".py", 'x = ClusterSpec(spark_version="18.x-scala2.13", data_security_mode=mode)\n', []),
        (".py", 'x = {**cluster, "num_workers": 2}\n', []),
        (".py", 'x = {"compute": {"new_cluster": made}}\n', []),
        (".toml", 'compute = { new_cluster = { spark_version = "18.x-scala2.13" } }\n', [(1, BARE)]),
        (
            ".toml",
            'a = 1\ncompute = { new_cluster = { spark_version = "18.x-scala2.13", data_security_mode = "X" } }\n',
            [],
        ),
        (".yaml", f'Default: \'{{"new_cluster": {{{LTS}, "spark_conf": {{}}}}}}\'\n', [(1, BARE)]),
        (".json", '{"spark_version": "18.0.x-scala2.13"}', [(1, OLD), (1, BARE)]),
        (".yaml", "Default: 18.1.x\n", [(1, "18.1.x is no runtime of long-term support: 18.x-scala2.13")]),
        (".yaml", "KafkaVersion: 3.9.x.kraft\n", []),
    ],
)
def test_clusters_that_new_workspaces_refuse_are_found(kind, source, faults):
    assert list(clusters.wrong(source, kind)) == faults


def test_make_lint_ends_with_an_error_for_such_a_cluster(tmp_path, capsys):
    folders = "dags plugins include mwaa msk local bench"
    check = f'check "clusters" $bin/python -m local.lint.clusters {folders}\n'
    assert check in (ROOT / "local" / "lint.sh").read_text()
    assert clusters.main([str(ROOT / each) for each in folders.split()]) == 0
    settings = (ROOT / "mwaa" / "settings.py").read_text()
    wrong = tmp_path / "settings.py"
    mode = '            "data_security_mode": "SINGLE_USER",\n'
    assert mode in settings
    wrong.write_text(settings.replace(mode, ""))
    assert clusters.main([str(tmp_path)]) == 1
    line = settings.partition('"spark_version"')[0].count("\n")
    assert capsys.readouterr().out == f"{wrong}:{line}: {BARE}\n"
    wrong.write_text(settings.replace("18.x-scala2.13", "18.0.x-scala2.13"))
    assert clusters.main([str(wrong)]) == 1
    assert capsys.readouterr().out == f"{wrong}:{line + 1}: {OLD}\n"
