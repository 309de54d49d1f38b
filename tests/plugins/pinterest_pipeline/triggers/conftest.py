from __future__ import annotations

import pytest

from pinterest_pipeline.triggers import base


@pytest.fixture(autouse=True)
def _no_shortest_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SHORTEST_SECONDS", 0.0)
