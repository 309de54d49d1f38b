"""Resharding as Kinesis does it: a shard that is split or merged is closed, and keeps its records for readers.

ministack drops a shard with its records when it is split or merged, and all of a stream's when its number of shards
is changed. ``install`` puts these functions in the place of ministack's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from ministack.core.responses import error_response_json, json_response
from ministack.services import kinesis

Shard = dict[str, Any]
Answer = tuple[int, dict[str, str], Any]

CLOSED = "ending_sequence_number"
"""Key of ministack's shards that only closed ones have."""
_HASHES = 2**128
_HASH_KEY = re.compile(r"[0-9]{1,39}")

_stream_summary: Callable[[Mapping[str, Any]], Answer] = kinesis._describe_stream_summary
_shard_out: Callable[[str, Shard], dict[str, Any]] = kinesis._shard_out
_get_records: Callable[[Mapping[str, Any]], Answer] = kinesis._get_records


def install() -> None:
    """Makes ministack reshard this way. Its table of actions looks the functions up by their names."""
    for function in (_split_shard, _merge_shards, _update_shard_count, _route_to_shard):
        setattr(kinesis, function.__name__, function)
    kinesis._shard_out = _shard
    kinesis._describe_stream_summary = _summary
    kinesis._get_records = _records


def open_shards(stream: Mapping[str, Any]) -> dict[str, Shard]:
    """The shards that take records, in the order of their hash keys."""
    found = [(name, shard) for name, shard in stream["shards"].items() if CLOSED not in shard]
    return dict(sorted(found, key=lambda item: int(item[1]["starting_hash_key"])))


def _close(shard: Shard) -> None:
    shard[CLOSED] = kinesis._next_sequence_number()


def _add(stream: Mapping[str, Any], start: int, end: int, *parents: str) -> None:
    name = f"shardId-{kinesis._max_shard_index(stream) + 1:012d}"
    stream["shards"][name] = {
        "records": [],
        "starting_hash_key": str(start),
        "ending_hash_key": str(end),
        "starting_sequence_number": kinesis._next_sequence_number(),
        "parent_shard_id": parents[0],
        "adjacent_parent_shard_id": parents[1] if len(parents) > 1 else None,
    }


def _range(shard: Shard) -> tuple[int, int]:
    return int(shard["starting_hash_key"]), int(shard["ending_hash_key"])


def _split(stream: Mapping[str, Any], name: str, at: int) -> None:
    start, end = _range(stream["shards"][name])
    _close(stream["shards"][name])
    _add(stream, start, at - 1, name)
    _add(stream, at, end, name)


def _merge(stream: Mapping[str, Any], one: str, other: str) -> None:
    shards = stream["shards"]
    ends = [*_range(shards[one]), *_range(shards[other])]
    _close(shards[one])
    _close(shards[other])
    _add(stream, min(ends), max(ends), one, other)


def _route_to_shard(hash_key: int, stream: Mapping[str, Any]) -> str:
    return next(
        name for name, shard in open_shards(stream).items() if hash_key <= int(shard["ending_hash_key"])
    )


def _split_shard(data: Mapping[str, Any]) -> Answer:
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _unknown(f"Stream {name} not found")
    shard = open_shards(stream).get(str(data.get("ShardToSplit")))
    if shard is None:
        return _unknown(f"Shard {data.get('ShardToSplit')} not found")
    start, end = _range(shard)
    given = data.get("NewStartingHashKey")
    at = int(given) if isinstance(given, str) and _HASH_KEY.fullmatch(given) else 0
    if not start < at <= end:
        return _invalid("NewStartingHashKey must be within the shard range")
    _split(stream, str(data["ShardToSplit"]), at)
    return _answer({})


def _merge_shards(data: Mapping[str, Any]) -> Answer:
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _unknown(f"Stream {name} not found")
    names = [str(data.get("ShardToMerge")), str(data.get("AdjacentShardToMerge"))]
    shards = open_shards(stream)
    for shard in names:
        if shard not in shards:
            return _unknown(f"Shard {shard} not found")
    (_, end), (start, _) = sorted(_range(shards[shard]) for shard in names)
    if end + 1 != start:
        return _invalid(f"Shards {names[0]} and {names[1]} are not adjacent")
    _merge(stream, *names)
    return _answer({})


def _update_shard_count(data: Mapping[str, Any]) -> Answer:
    """Evenly split shards, as UNIFORM_SCALING: every cut that is missing is made, every other one is mended."""
    name, stream = kinesis._resolve_stream(data)
    if not stream:
        return _unknown(f"Stream {name} not found")
    target, current = data.get("TargetShardCount"), len(open_shards(stream))
    if not isinstance(target, int) or isinstance(target, bool):
        return _invalid("TargetShardCount must be a whole number")
    if not 1 <= target <= 2 * current or 2 * target < current:
        return _out_of_reach(
            f"UpdateShardCount takes a stream of {current} open shards to at most {2 * current} and at least "
            f"{-(-current // 2)}, not {target}."
        )
    cuts = [_HASHES * number // target for number in range(1, target)]
    for at in cuts:
        for shard, found in open_shards(stream).items():
            start, end = _range(found)
            if start < at <= end:
                _split(stream, shard, at)
    _mend(stream, set(cuts))
    return _answer({
        "StreamName": stream["StreamName"],
        "CurrentShardCount": current,
        "TargetShardCount": target,
        "StreamARN": stream["StreamARN"],
    })


def _mend(stream: Mapping[str, Any], cuts: set[int]) -> None:
    """Merges neighbours between which there is to be no cut, until there are none."""
    while True:
        shards = open_shards(stream)
        for one, other in pairwise(shards):
            if int(shards[other]["starting_hash_key"]) not in cuts:
                _merge(stream, one, other)
                break
        else:
            return


def _shard(name: str, shard: Shard) -> dict[str, Any]:
    shown = _shard_out(name, shard)
    if CLOSED in shard:
        shown["SequenceNumberRange"]["EndingSequenceNumber"] = shard[CLOSED]
    return shown


def _summary(data: Mapping[str, Any]) -> Answer:
    _, stream = kinesis._resolve_stream(data)
    status, headers, body = _stream_summary(data)
    if not stream:
        return status, headers, body
    summary = _object(body)
    summary["StreamDescriptionSummary"]["OpenShardCount"] = len(open_shards(stream))
    return _answer(summary)


def _records(data: Mapping[str, Any]) -> Answer:
    """GetRecords; at the end of a closed shard there is no next iterator, but the shards that follow."""
    status, headers, body = _get_records(data)
    if status != 200:
        return status, headers, body
    answer = _object(body)
    place = kinesis._shard_iterators[answer["NextShardIterator"]]
    stream = kinesis._streams[place["stream"]]
    shard = stream["shards"][place["shard_id"]]
    if CLOSED in shard and place["position"] >= len(shard["records"]):
        del answer["NextShardIterator"]
        answer["ChildShards"] = [
            {"ShardId": name, "ParentShards": parents, "HashKeyRange": _shard(name, child)["HashKeyRange"]}
            for name, child in stream["shards"].items()
            if place["shard_id"]
            in (parents := [p for p in (child["parent_shard_id"], child["adjacent_parent_shard_id"]) if p])
        ]
    return _answer(answer)


def _answer(content: Mapping[str, Any]) -> Answer:
    answer: Answer = json_response(dict(content))
    return answer


def _object(body: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body)
    return found


def _unknown(message: str) -> Answer:
    return _error("ResourceNotFoundException", message)


def _invalid(message: str) -> Answer:
    return _error("ValidationException", message)


def _out_of_reach(message: str) -> Answer:
    return _error("InvalidArgumentException", message)


def _error(code: str, message: str) -> Answer:
    answer: Answer = error_response_json(code, message, 400)
    return answer
