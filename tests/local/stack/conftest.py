"""A stack that a test starts parts in."""

import pytest

from local.stack import settings
from local.stack.supervisor import Supervisor


@pytest.fixture
def stack(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT_OFFSET", "auto")
    made = settings.load_or_create(tmp_path / "h")
    yield made
    Supervisor(made).shut_down([], print)
