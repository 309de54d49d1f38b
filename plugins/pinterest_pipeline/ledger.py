"""
The ledger of a leg: what was drawn has to be found again at its other end.

A leg's ledger is a dict of tables, each a dict of counts; whoever builds one here gets a
:class:`~pinterest_pipeline.exceptions.LedgerImbalance` if it does not balance, naming leg, table and counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pinterest_pipeline.exceptions import LedgerImbalance, ReportMissing

Counts = Mapping[str, Any]
Ledger = dict[str, dict[str, Any]]

FATES = ("clean", "superseded", "quarantined")


def topics_ledger(
    tables: Mapping[str, Counts] | None, landed: Mapping[str, Counts], topics: Mapping[str, str]
) -> Ledger:
    """
    Reconcile what the emulator reported with what has landed in the bucket.

    :param tables: table → ``drawn``, ``missing``, ``sent``, ``acknowledged``, ``failed``, by the emulator; None: it has
        told nothing.
    :param landed: topic → ``landed``, by the sensor.
    :param topics: table → topic.
    """
    if tables is None:
        raise ReportMissing
    ledger: Ledger = {}
    problems: list[str] = []
    for table, sent in tables.items():
        problems += _emulated("topics", table, sent)
        arrived = landed.get(topics[table], {}).get("landed", 0)
        ledger[table] = {
            "drawn": sent["drawn"],
            "missing": sent["missing"],
            "acknowledged": sent["acknowledged"],
            "landed": arrived,
        }
        if arrived != sent["acknowledged"]:
            problems.append(f"topics, {table}: {sent['acknowledged']} acknowledged, but {arrived} landed")
    _raise(problems)
    return ledger


def streams_ledger(
    tables: Mapping[str, Counts] | None,
    before: Mapping[str, Counts],
    after: Mapping[str, Counts],
    streams: Mapping[str, str],
) -> Ledger:
    """
    Reconcile what the emulator reported with what the stream job has read and sorted.

    :param tables: table → ``drawn``, ``missing``, ``sent``, ``acknowledged``, ``failed``, by the emulator; None: it has
        told nothing.
    :param before: stream → the job's cumulative counts before the run.
    :param after: stream → the same after it.
    :param streams: table → stream.
    :return: table → the emulator's counts; ``committed`` (records read in this run; others may have put some
        too) and what became of them; and under ``total`` the job's counts of all runs.
    """
    if tables is None:
        raise ReportMissing
    ledger: Ledger = {}
    problems: list[str] = []
    for table, sent in tables.items():
        problems += _emulated("streams", table, sent)
        now, then = after.get(streams[table], {}), before.get(streams[table], {})
        total = {name: now.get(name, 0) for name in ("read", *FATES)}
        committed = total["read"] - then.get("read", 0)
        reasons: Counter[str] = Counter(now.get("by_reason", {}))
        ledger[table] = {
            "drawn": sent["drawn"],
            "missing": sent["missing"],
            "acknowledged": sent["acknowledged"],
            "committed": committed,
            **{name: total[name] - then.get(name, 0) for name in FATES},
            "by_reason": dict(reasons - Counter(then.get("by_reason", {}))),
            "total": {**total, "by_reason": dict(reasons)},
        }
        if committed < sent["acknowledged"]:
            problems.append(
                f"streams, {table}: {sent['acknowledged']} acknowledged, but {committed} committed"
            )
        sorted_out = sum(total[name] for name in FATES)
        if total["read"] != sorted_out:
            problems.append(
                f"stream tables, {table}: {total['read']} read, but {total['clean']} clean + "
                f"{total['superseded']} superseded + {total['quarantined']} quarantined = {sorted_out}"
            )
    _raise(problems)
    return ledger


def _emulated(leg: str, table: str, sent: Counts) -> list[str]:
    problems = []
    if sent["drawn"] != sent["missing"] + sent["sent"]:
        problems.append(
            f"{leg}, {table}: {sent['drawn']} drawn, but {sent['missing']} missing + {sent['sent']} sent"
        )
    if sent["sent"] != sent["acknowledged"] + sent["failed"]:
        problems.append(
            f"{leg}, {table}: {sent['sent']} sent, but {sent['acknowledged']} acknowledged + "
            f"{sent['failed']} failed"
        )
    return problems


def _raise(problems: list[str]) -> None:
    if problems:
        raise LedgerImbalance("The ledger does not balance. " + "; ".join(problems))
