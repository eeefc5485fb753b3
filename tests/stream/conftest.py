"""The servers and clients of the wire tests, for tests of what a server says by itself."""

import pytest

from tests.runtime.conftest import virtual
from tests.wire.conftest import client as client
from tests.wire.conftest import fresh as fresh
from tests.wire.conftest import fresh_client as fresh_client
from tests.wire.conftest import queue as queue
from tests.wire.conftest import server as server
from tests.wire.conftest import start_server as start_server

NAMES = "sessions event_streams undelivered slow_clients hot hot_ends alone together pollers reported rounds stops"
IN_VIRTUAL_TIME = {f"test_{name}.py" for name in NAMES.split()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that are about time run in virtual time."""
    for item in items:
        if item.path.name in IN_VIRTUAL_TIME and item.path.parent.name == "stream":
            item.add_marker(pytest.mark.trio(run=virtual))
