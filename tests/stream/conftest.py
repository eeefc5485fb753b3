"""The servers and clients of the wire tests, for tests of what a server says by itself."""

from tests.wire.conftest import client as client
from tests.wire.conftest import fresh as fresh
from tests.wire.conftest import fresh_client as fresh_client
from tests.wire.conftest import queue as queue
from tests.wire.conftest import server as server
from tests.wire.conftest import start_server as start_server
