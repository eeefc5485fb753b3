"""What the hot loop needs of a connection that parks in it, and of what the connections of a lane share."""

from typing import Protocol

import trio

from bunqueue_trio.api.call import Call, Owed, Response
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.runtime.begun import Begun
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.transports.heads import RequestHeads
from bunqueue_trio.transports.response_heads import ResponseHeads


class Shared(Protocol):
    """What connections share."""

    server: Server
    gateway: Gateway
    requests: RequestHeads
    heads: ResponseHeads
    buffer: memoryview
    now: float
    keep_alive_s: float


class Parks(Protocol):
    """A connection. What the loop leaves to its task returns whether it goes on."""

    stream: trio.abc.Stream
    number: int
    address: str
    idle: bool
    deadline: float

    async def serve_next(self) -> bool:
        """Read a request and serve it."""
        ...

    async def go_on(self, data: bytes) -> bool:
        """Serve what begins with ``data``, which the loop has read; nothing is the end."""
        ...

    async def finish(self, call: Call, begun: Begun) -> bool:
        """Answer what the loop has begun, and what waits for more than its commit."""
        ...

    async def finish_nowait(self, call: Call, begun: Begun) -> bool:
        """Answer what the loop has begun, and what is committed or given up."""
        ...

    async def answer(self, response: Response) -> bool:
        """Send a response."""
        ...

    async def send_rest(self, data: bytes, delivery: Owed | None) -> bool:
        """Send what the kernel has not taken of a response, with the jobs of ``delivery`` in it."""
        ...
