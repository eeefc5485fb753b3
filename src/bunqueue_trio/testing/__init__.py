"""A whole server in a test: in memory, in virtual time, without sockets and threads; crashes included.

``bunqueue_trio.testing.plugin`` has it as the pytest fixture ``bunqueue``.
"""

from bunqueue_trio.testing.server import Bunqueue, InlineWorker

__all__ = ["Bunqueue", "InlineWorker"]
