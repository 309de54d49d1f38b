from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from airflow.sdk.exceptions import AirflowFailException

from pinterest_pipeline.config import Settings
from pinterest_pipeline.emulating import checked, log_progress, refuse_endless
from pinterest_pipeline.exceptions import ParametersRefused, RecordsFailed
from pinterest_pipeline.gateway import GatewayClient
from pinterest_pipeline.senders import StreamSender, TopicSender

SETTINGS = Settings(bucket="my-bucket", prefix="p")


def report(failed: int) -> dict[str, Any]:
    counts = {"drawn": 3, "missing": 1, "sent": 2, "acknowledged": 2 - failed, "failed": failed}
    failures = [{"table": "pin", "number": 7528, "code": "400", "reason": "no"}][:failed]
    return {"tables": {"pin": counts}, "failures": failures, "positions": {}}


@pytest.mark.parametrize("failed", [0, 1])
def test_the_report_is_kept_whatever_happens(failed: int) -> None:
    ti = mock.Mock(spec_set=["xcom_push"])
    given = report(failed)
    if failed:
        with pytest.raises(RecordsFailed, match="pin 7528: 400 no"):
            checked(given, ti)
    else:
        assert checked(given, ti) == given
    ti.xcom_push.assert_called_once_with(key="report", value=given)


@pytest.mark.parametrize("retriable", [True, False])
def test_refused_records_say_whether_another_try_may_help(retriable: bool) -> None:
    with pytest.raises(RecordsFailed) as raised:
        checked(report(1), mock.Mock(), retriable=retriable)
    assert raised.value.retriable is retriable


@pytest.mark.parametrize(
    ("posts", "rate"),
    [(1_000_000, None), (0, 0.001), (13_800, 1), (13_800.0, 1.0), (6_900, 0.5), (1_000_000, 73)],
)
def test_what_can_end_in_time_is_accepted(posts: float, rate: float | None) -> None:
    refuse_endless({"posts": posts, "rate": rate})


@pytest.mark.parametrize(
    ("posts", "rate", "says"),
    [
        (100_000, 5, "100000 posts at 5 a second take 5 h 34, more than the 3 h 50 that emulate has"),
        (13_801, 1, "13801 posts at 1 a second take 3 h 51"),
        (13_801.0, 1.0, "13801 posts at 1 a second take 3 h 51"),
        (7_000, 0.5, "7000 posts at 0.5 a second take 3 h 54"),
        (1, 5e-324, "1 posts at 4.94066e-324 a second take years"),
    ],
)
def test_what_cannot_end_in_time_is_refused(posts: float, rate: float, says: str) -> None:
    with pytest.raises(ParametersRefused, match=says) as refused:
        refuse_endless({"posts": posts, "rate": rate})
    assert isinstance(refused.value, AirflowFailException), "a retry would be refused, too"


def test_progress_is_told_every_few_seconds_and_at_the_end() -> None:
    with (
        mock.patch("pinterest_pipeline.emulating.time.monotonic", side_effect=[0, 1, 11, 12, 13]),
        mock.patch("pinterest_pipeline.emulating.log", autospec=True) as log,
    ):
        progress = log_progress()
        for drawn in (1, 2, 3, 4):
            progress(SimpleNamespace(drawn=drawn, posts=4, acknowledged=drawn * 3, failed=0))
    assert [call.args[1:] for call in log.info.call_args_list] == [(2, 4, 6, 0, 11), (4, 4, 12, 0, 13)]


def test_senders() -> None:
    client = mock.create_autospec(GatewayClient, instance=True)
    records = [(1, {"ind": 1})]
    topics = TopicSender(client, SETTINGS)
    assert topics.destination("pin") == "p.pin"
    assert topics.send("pin", records) == client.produce.return_value
    client.produce.assert_called_once_with("p.pin", records)
    streams = StreamSender(client, SETTINGS)
    assert streams.destination("geo") == "streaming-p-geo"
    assert streams.send("geo", records) == client.put_records.return_value
    client.put_records.assert_called_once_with("streaming-p-geo", records)
