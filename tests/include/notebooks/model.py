"""What is correct, once more: the rules of the data in plain Python, one record at a time.

Written from the rules and not from the notebooks, so that the two can be held against each other.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Row = dict[str, Any]

TEXT, INT, NUMBER, MOMENT = "text", "int", "number", "moment"
PIN = {
    "index": INT,
    "unique_id": TEXT,
    "title": TEXT,
    "description": TEXT,
    "poster_name": TEXT,
    "follower_count": TEXT,
    "tag_list": TEXT,
    "is_image_or_video": TEXT,
    "image_src": TEXT,
    "downloaded": INT,
    "save_location": TEXT,
    "category": TEXT,
}
GEO = {"ind": INT, "timestamp": MOMENT, "latitude": NUMBER, "longitude": NUMBER, "country": TEXT}
USER = {"ind": INT, "first_name": TEXT, "last_name": TEXT, "age": INT, "date_joined": MOMENT}
FIELDS = {"pin": PIN, "geo": GEO, "user": USER}
KEYS = {"pin": "index", "geo": "ind", "user": "ind"}


class _Repeated(ValueError):
    pass


def _members(pairs: list[tuple[str, Any]]) -> Row:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _Repeated
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant)


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _texts(item)


def _is_of(kind: str, value: Any) -> bool:
    if kind in {TEXT, MOMENT}:
        return isinstance(value, str)
    if isinstance(value, bool):
        return False
    if kind == INT:
        return isinstance(value, int) and -(2**31) <= value < 2**31
    return isinstance(value, int | float)


def moment(text: str) -> dt.datetime | None:
    """The moment a text of one of the two forms stands for."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}", text):
        return None
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None


def reason(table: str, raw: bytes | None) -> str | None:
    """Why a record of a topic cannot be read; None when it can."""
    if raw is None:
        return "null_value"
    return "line_break" if b"\n" in raw else _read(table, raw)[0]


def _read(table: str, raw: bytes) -> tuple[str | None, Row]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "not_utf8", {}
    if not text.strip():
        return "blank", {}
    try:
        value = _parse(text)
    except ValueError:
        return "not_json", {}
    if any("\ud800" <= letter <= "\udfff" for found in _texts(value) for letter in found):
        return "not_utf8", {}
    if not isinstance(value, dict):
        return "not_an_object", {}
    return _judge(table, value), value


def _judge(table: str, record: Row) -> str | None:
    fields, key = FIELDS[table], KEYS[table]
    given = {name: record[name] for name in fields if record.get(name) is not None}
    if key not in given:
        return "no_ind"
    if not all(_is_of(fields[name], value) for name, value in given.items()):
        return "wrong_type"
    if any(moment(value) is None for name, value in given.items() if fields[name] == MOMENT):
        return "bad_timestamp"
    if abs(given.get("latitude", 0)) > 90 or abs(given.get("longitude", 0)) > 180:
        return "out_of_range"
    if not any(name in record for name in fields if name != key):
        return "no_known_field"
    return None


_MISSING = {
    "title": {"No Title Data Available"},
    "description": {"No description available Story format", "No description available", "Untitled"},
    "poster_name": {"User Info Error"},
    "follower_count": {"User Info Error"},
    "tag_list": {"N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e"},
    "image_src": {"Image src error."},
}


def _tidy(record: Row, name: str) -> str | None:
    text = (record.get(name) or "").strip()
    return None if text == "" or text in _MISSING.get(name, ()) else text


def followers(text: str) -> int | None:
    """The count a text stands for; None when it is none."""
    match = re.fullmatch(r"([0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.([0-9]+))?([kmb]?)", text, re.IGNORECASE)
    if not match or not text.isascii():
        return None
    whole, fraction, suffix = match[1].replace(",", ""), match[2] or "", match[3].lower()
    zeros = {"": 0, "k": 3, "m": 6, "b": 9}[suffix]
    value, rest = divmod(int(whole + fraction) * 10**zeros, 10 ** len(fraction))
    return value if rest == 0 and value < 2**63 else None


def row(table: str, raw: bytes) -> Row:
    """The clean row of a record that can be read, with the flag of the pin."""
    why, record = _read(table, raw)
    assert why is None, why
    return {"pin": _pin, "geo": _geo, "user": _user}[table](record)


def _pin(record: Row) -> Row:
    count = _tidy(record, "follower_count")
    place = _tidy(record, "save_location")
    return {
        "ind": record["index"],
        "unique_id": _tidy(record, "unique_id"),
        "title": _tidy(record, "title"),
        "description": _tidy(record, "description"),
        "follower_count": followers(count) if count else None,
        "poster_name": _tidy(record, "poster_name"),
        "tag_list": _tidy(record, "tag_list"),
        "is_image_or_video": _tidy(record, "is_image_or_video"),
        "image_src": _tidy(record, "image_src"),
        "save_location": place.removeprefix("Local save in ").strip() if place else None,
        "category": _tidy(record, "category"),
        "follower_count_unparsable": count is not None and followers(count) is None,
    }


def _geo(record: Row) -> Row:
    pair = [record.get("latitude"), record.get("longitude")]
    return {
        "ind": record["ind"],
        "country": _tidy(record, "country"),
        "coordinates": None if None in pair else [float(number) + 0.0 for number in pair],  # +: no -0.0
        "timestamp": moment(record["timestamp"]) if record.get("timestamp") else None,
    }


def _user(record: Row) -> Row:
    names = [name for name in (_tidy(record, "first_name"), _tidy(record, "last_name")) if name]
    return {
        "ind": record["ind"],
        "user_name": " ".join(names) or None,
        "age": record.get("age"),
        "date_joined": moment(record["date_joined"]) if record.get("date_joined") else None,
    }


def newest(table: str, records: Mapping[tuple[Any, ...], bytes | None]) -> tuple[list[Row], Counter[str]]:
    """One row a post from records by position (the larger the newer), and what became of each record."""
    rows: dict[int, Row] = {}
    fate: Counter[str] = Counter()
    for _, raw in sorted(records.items()):
        why = reason(table, raw)
        fate["read"] += 1
        if why:
            fate["quarantined"] += 1
            fate[why] += 1
            continue
        made = row(table, raw or b"")
        fate["superseded"] += made["ind"] in rows
        rows[made["ind"]] = made
    fate["clean"] = len(rows)
    fate["unparsable"] = sum(bool(made.get("follower_count_unparsable")) for made in rows.values())
    return list(rows.values()), fate


def _group(age: int | None) -> str | None:
    if age is None or age < 18:
        return None
    return "18-24" if age <= 24 else "25-35" if age <= 35 else "36-50" if age <= 50 else "+50"


def answers(pins: list[Row], geos: list[Row], users: list[Row]) -> dict[str, list[Row]]:
    """The ten answers from clean rows, as the published object has them."""
    geo = {made["ind"]: made for made in geos}
    user = {made["ind"]: made for made in users}
    posts = []
    for pin in pins:
        where, who = geo.get(pin["ind"], {}), user.get(pin["ind"], {})
        when, since = where.get("timestamp"), who.get("date_joined")
        posts.append({
            **{name: pin[name] for name in ("category", "poster_name", "follower_count")},
            "country": where.get("country"),
            "post_year": when.year if when and 2018 <= when.year <= 2022 else None,
            "age_group": _group(who.get("age")),
            "year_joined": since.year if since and 2015 <= since.year <= 2020 else None,
        })
    by_year = _count(posts, "post_year", "category")
    posters = _largest(posts)
    people = {(who["user_name"], who["age"], who["date_joined"]) for who in users}
    joined = Counter(since.year for _, _, since in people if since and 2015 <= since.year <= 2020)
    best = _best(posters, lambda answer: answer["country"], "follower_count")
    return {
        "q1": _best(_count(posts, "country", "category"), lambda a: a["country"], "category_count"),
        "q2_counts": by_year,
        "q2_winners": _best(by_year, lambda a: a["post_year"], "category_count"),
        "q3_per_country": best,
        "q3_top_country": _sorted(
            {
                (a["country"], a["follower_count"]): {key: a[key] for key in ("country", "follower_count")}
                for a in _best(best, lambda a: None, "follower_count")
            }.values()
        ),
        "q4": _best(_count(posts, "age_group", "category"), lambda a: a["age_group"], "category_count"),
        "q5": _medians(posts, "age_group"),
        "q6": [{"year_joined": year, "number_users_joined": count} for year, count in sorted(joined.items())],
        "q7": _medians(posts, "year_joined"),
        "q8": _medians(posts, "age_group", "year_joined"),
    }


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda answer: tuple(answer.values()))


def _known(posts: list[Row], *names: str) -> list[tuple[Any, ...]]:
    return [values for post in posts if None not in (values := tuple(post[name] for name in names))]


def _count(posts: list[Row], *names: str) -> list[Row]:
    counts = Counter(_known(posts, *names))
    return _sorted(
        {**dict(zip(names, key, strict=True)), "category_count": count} for key, count in counts.items()
    )


def _largest(posts: list[Row]) -> list[Row]:
    largest: dict[tuple[str, str], int] = {}
    for country, poster, count in _known(posts, "country", "poster_name", "follower_count"):
        largest[country, poster] = max(count, largest.get((country, poster), 0))
    return [
        {"country": country, "poster_name": poster, "follower_count": count}
        for (country, poster), count in largest.items()
    ]


def _best(rows: list[Row], group: Callable[[Row], Any], measure: str) -> list[Row]:
    most: dict[Any, int] = {}
    for answer in rows:
        most[group(answer)] = max(answer[measure], most.get(group(answer), answer[measure]))
    return _sorted(answer for answer in rows if answer[measure] == most[group(answer)])


def _medians(posts: list[Row], *names: str) -> list[Row]:
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for *key, count in _known(posts, *names, "follower_count"):
        groups[tuple(key)].append(count)
    return _sorted(
        {**dict(zip(names, key, strict=True)), "median_follower_count": float(statistics.median(counts))}
        for key, counts in groups.items()
    )
