"""The synthetic source: the same everywhere, and shaped like real posts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from include.emulation import synthetic
from include.emulation.source import TABLES

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "7cc6d141c87f5b8787e972ff690db56f6386cae4efc6b3e85a7bcdbe052df047"

Posts = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def posts() -> Posts:
    return {table: list(records) for table, records in synthetic.posts().items()}


def digest_of(posts: Posts) -> str:
    return hashlib.sha256(json.dumps(posts, ensure_ascii=False).encode()).hexdigest()


def test_the_same_bytes_every_time(posts: Posts) -> None:
    assert digest_of(posts) == DIGEST, "The synthetic source changed: every user's figures change with it."


def test_the_same_bytes_in_another_process(posts: Posts) -> None:
    program = (
        "import hashlib, json; from include.emulation import synthetic;"
        "posts = {table: list(records) for table, records in synthetic.posts().items()};"
        "print(hashlib.sha256(json.dumps(posts, ensure_ascii=False).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest_of(posts)


def test_every_table_is_complete(posts: Posts) -> None:
    for table, records in posts.items():
        assert [record[TABLES[table].number] for record in records] == list(range(11_154))
        assert all(list(record) == list(TABLES[table].columns) for record in records)
        assert all(
            isinstance(value, kind)
            for record in records
            for value, kind in zip(record.values(), TABLES[table].columns.values(), strict=True)
        )


def test_users(posts: Posts) -> None:
    users = {(u["first_name"], u["last_name"], u["age"], u["date_joined"]) for u in posts["user"]}
    by_name = defaultdict(set)
    for user in users:
        by_name[user[:2]].add(user)
    assert len(users) == 5_307
    assert sum(len(same) > 1 for same in by_name.values()) == 196
    assert {u["age"] for u in posts["user"]} == set(range(20, 61))
    joined = {u["date_joined"] for u in posts["user"]}
    assert "2015-10-21" <= min(joined)[:10] <= max(joined)[:10] <= "2017-10-20"


def test_a_place_belongs_to_one_user(posts: Posts) -> None:
    place_of = defaultdict(set)
    user_at = defaultdict(set)
    for user, geo in zip(posts["user"], posts["geo"], strict=True):
        person = tuple(value for name, value in user.items() if name != "ind")
        place = (geo["latitude"], geo["longitude"])
        place_of[person].add(place)
        user_at[place].add(person)
    assert len(place_of) == len(user_at) == 5_307
    assert max(map(len, place_of.values())) == max(map(len, user_at.values())) == 1


def test_geography(posts: Posts) -> None:
    countries = {geo["country"] for geo in posts["geo"]}
    assert len(countries) > 200
    for mark in ("'", "&", "(", "ç"):
        assert any(mark in country for country in countries)
    assert all(abs(geo["latitude"]) < 90 and abs(geo["longitude"]) < 180 for geo in posts["geo"])
    moments = {geo["timestamp"] for geo in posts["geo"]}
    assert "2017-10-19" <= min(moments)[:10] <= max(moments)[:10] <= "2022-10-19"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", moment) for moment in moments)


# Rows of 4,275 real pins; the synthetic ones keep the proportion.
@pytest.mark.parametrize(
    ("column", "pattern", "real"),
    [
        ("title", "No Title Data Available", 31),
        ("poster_name", "User Info Error", 31),
        ("follower_count", "User Info Error", 31),
        ("follower_count", r"\d+k", 3_129),
        ("follower_count", r"\d+M", 349),
        ("follower_count", r"\d+", 766),
        ("follower_count", "0", 23),
        ("tag_list", "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e", 65),
        ("image_src", r"Image src error\.", 102),
        ("downloaded", "0", 102),
        ("description", "No description available Story format", 324),
        ("description", "No description available", 68),
        ("description", "Untitled", 1),
        ("description", "(?s).*…\N{NO-BREAK SPACE}", 1_544),
        ("title", "Untitled", 1),
        ("title", "", 1),
        ("is_image_or_video", "image", 3_826),
        ("is_image_or_video", "video", 125),
        ("save_location", "Local save in /data/.+", 4_275),
        ("title", "(?s).*[\U00010000-\U0010ffff].*", 49),
        ("title", "(?s).*\n.*", 8),
        ("title", r"(?s).*\\.*", 1),
        ("title", "(?s).*\ufffd.*", 1),
        ("description", "(?s).*&amp;.*", 1),
    ],
)
def test_dirty_values_keep_their_proportion(posts: Posts, column: str, pattern: str, real: int) -> None:
    count = sum(bool(re.fullmatch(pattern, str(pin[column]))) for pin in posts["pin"])
    assert count == pytest.approx(real * 11_154 / 4_275, abs=2)


def test_placeholders_come_together(posts: Posts) -> None:
    for pin in posts["pin"]:
        without_info = pin["poster_name"] == "User Info Error"
        assert without_info == (pin["title"] == "No Title Data Available")
        assert without_info == (pin["follower_count"] == "User Info Error")
        if without_info:
            assert pin["tag_list"].startswith("N,o,")
            assert pin["downloaded"] == 0
        assert (pin["image_src"] == "Image src error.") == (pin["downloaded"] == 0)
        assert pin["save_location"] == f"Local save in /data/{pin['category']}"


def test_categories_and_posters(posts: Posts) -> None:
    assert len(Counter(pin["category"] for pin in posts["pin"])) == 13
    assert len({pin["unique_id"] for pin in posts["pin"]}) == 11_154
    counts = defaultdict(set)
    for pin in posts["pin"]:
        counts[pin["poster_name"]].add(pin["follower_count"])
    assert max(map(len, counts.values())) == 1
