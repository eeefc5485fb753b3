"""Every command of the server and every reply, for :meth:`Client.run` and :meth:`SyncClient.run`.

Fields are the server's own: times in ms, and payloads as :class:`msgspec.Raw`, the bytes of JSON.
"""

# ruff: noqa: F403 - all of them

from typing import Any

from msgspec import Raw

from bunqueue_trio.protocol.commands import *
from bunqueue_trio.protocol.config_replies import *
from bunqueue_trio.protocol.payloads import payload_of
from bunqueue_trio.protocol.queue_replies import *
from bunqueue_trio.protocol.replies import *
from bunqueue_trio.protocol.rerun_replies import *
from bunqueue_trio.protocol.server_replies import *
from bunqueue_trio.protocol.worker_replies import *


def payload(value: Any) -> Raw:
    """Return ``value`` as JSON, as commands want it for ``data`` and ``result``.

    Raises:
        TypeError: it has none.
        ValueError: it has a number that JSON does not know.
    """
    return payload_of(value)
