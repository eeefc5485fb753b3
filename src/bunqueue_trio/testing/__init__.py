"""A whole server in a test: in memory, in virtual time, without sockets and threads; crashes included.

With pytest-trio installed, pytest has it as the fixture ``bunqueue``. Nothing is imported before it is used.
``ServerProcess`` is the other kind: a real server, in a process of its own. `testing.client` speaks to it as bare as can be.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bunqueue_trio.testing.process import ServerProcess
    from bunqueue_trio.testing.server import Bunqueue

__all__ = ["Bunqueue", "ServerProcess"]


def __getattr__(name: str) -> Any:
    """Import a server when it is asked for: pytest loads the plugin beside this in every run."""
    if name == "ServerProcess":
        from bunqueue_trio.testing.process import ServerProcess

        return ServerProcess
    if name in __all__:
        from bunqueue_trio.testing import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
