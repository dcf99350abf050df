"""Fixtures that several tests use. Nothing here needs a network."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.fixtures.models import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data, for tests marked `realdata`."""
    if not (folder := os.environ.get("MEDEMBED_DATA")):
        pytest.skip("MEDEMBED_DATA is not set: no real data here")
    return Path(folder)
