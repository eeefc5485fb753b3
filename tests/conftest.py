"""What every test may use; fixtures are nouns."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What the server logs during the test, entry by entry, instead of on the terminal."""
    with structlog.testing.capture_logs() as entries:
        yield entries
