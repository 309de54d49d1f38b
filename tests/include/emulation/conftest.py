"""Sources to emulate from."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from include.emulation.load import load

MakeSource = Callable[..., str]


def pin(number: int) -> dict[str, Any]:
    return {
        "index": number,
        "unique_id": f"00000000-0000-4000-8000-{number:012d}",
        "title": f'Title "{number}" 🎨\nsecond line \\',
        "description": "No description available",
        "poster_name": "Somebody",
        "follower_count": "12k",
        "tag_list": "A,B",
        "is_image_or_video": "image",
        "image_src": "Image src error.",
        "downloaded": 0,
        "save_location": "Local save in /data/art",
        "category": None,
    }


def geo(number: int) -> dict[str, Any]:
    return {
        "ind": number,
        "timestamp": "2020-08-28 03:52:47",
        "latitude": -1.25,
        "longitude": 100.0,
        "country": "Côte d'Azur & (elsewhere)",
    }


def user(number: int) -> dict[str, Any]:
    return {
        "ind": number,
        "first_name": "Ada",
        "last_name": None,
        "age": 20,
        "date_joined": "2016-01-02T03:04:05",
    }


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    """Makes a SQLite source whose tables have the posts of these numbers; returns its URL."""

    def make(
        pins: Collection[int], geos: Collection[int], users: Collection[int], name: str = "source"
    ) -> str:
        folder = tmp_path / f"{name}-files"
        folder.mkdir()
        for table, record, numbers in (("pin", pin, pins), ("geo", geo, geos), ("user", user, users)):
            lines = "".join(json.dumps(record(number)) + "\n" for number in numbers)
            (folder / f"{table}.jsonl").write_text(lines, encoding="utf-8")
        url = f"sqlite:///{tmp_path / name}.db"
        load(url, folder)
        return url

    return make


@pytest.fixture(scope="session")
def synthetic_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a source with all 11,154 synthetic posts."""
    url = f"sqlite:///{tmp_path_factory.mktemp('synthetic') / 'source.db'}"
    load(url)
    return url
