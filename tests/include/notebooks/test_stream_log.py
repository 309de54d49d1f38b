"""What the stream notebook prints in months is less than Databricks cuts, or ends a run for."""

import pytest

from pinterest_lake.streaming import Log

CUT = 10_000_000
DAY = 86_400


def test_a_line_is_printed_every_ten_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    log = Log(lambda: now[0])
    for second in range(1201):
        now[0] = 1000.0 + second
        log.say(f"after {second} s")
    assert capsys.readouterr().out == "after 0 s\nafter 600 s\nafter 1200 s\n"


def test_three_streams_may_run_for_months(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    log = Log(lambda: now[0])
    for _ in range(DAY):
        log.say("x" * 200)
        now[0] += 1
    assert 3 * len(capsys.readouterr().out) * 90 < CUT
