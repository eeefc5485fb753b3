"""What the tools for files are tried on."""

from pathlib import Path

import pytest

from tests.operations.stores import make_store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A store with jobs in every state, at which no server is."""
    path = tmp_path / "q.db"
    make_store(path)
    return path
