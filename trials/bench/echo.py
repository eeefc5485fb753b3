"""A bare Trio socket that answers every request with the same bytes: the least that an HTTP server on Trio can do.

It reads no header and looks at no body. Prints its port and serves until it is killed.
"""

import trio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
BODY = b'{"ok":true,"id":"00000000-0000-7000-8000-000000000000"}'  # as long as the answer to a push
ANSWER = HEAD % (len(BODY), BODY)


async def answer(stream: trio.SocketStream) -> None:
    """Answer whatever comes in, once for each time that something does."""
    try:
        async for _ in stream:
            await stream.send_all(ANSWER)
    except trio.BrokenResourceError:
        pass  # the load generator has gone


async def main() -> None:
    """Listen on a free port of the loopback address."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await trio.serve_listeners(answer, listeners)


if __name__ == "__main__":
    trio.run(main)
