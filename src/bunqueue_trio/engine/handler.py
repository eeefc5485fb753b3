"""What a handler is.

A handler either raises ``Refused`` having changed nothing, or does all of its work and returns the reply. It moves jobs
only through the engine's methods.
"""

from collections.abc import Callable
from typing import Any

from bunqueue_trio.engine.engine import Engine
from bunqueue_trio.protocol.commands import Command
from bunqueue_trio.protocol.replies import Reply

Owner = str | None
"""The connection that a pull is for, whose end gives its jobs back."""

Handler = Callable[[Engine, Any, int, Owner], Reply]

Handlers = dict[type[Command], Handler]
"""Command → handler."""
