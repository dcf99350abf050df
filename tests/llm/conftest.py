"""Pauses of hundredths of a second."""

import pytest


@pytest.fixture(autouse=True)
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medembed.llm.outcomes.FIRST_PAUSE", 0.01)
