"""A whole server in a test: in memory, in virtual time, without sockets and threads; crashes included.

With pytest-trio installed, pytest has it as the fixture ``bunqueue``. Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bunqueue_trio.testing.server import Bunqueue, InlineWorker

__all__ = ["Bunqueue", "InlineWorker"]


def __getattr__(name: str) -> Any:
    """Import the server when it is asked for: pytest loads the plugin beside this in every run."""
    if name in __all__:
        from bunqueue_trio.testing import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
