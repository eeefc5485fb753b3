"""The HTTP transport: sockets, and Hypercorn in front of the Quart-Trio application."""

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as hypercorn_serve

from bunqueue_trio.config import BACKLOG, HEADER_BYTES_MAX, KEEP_ALIVE_S
from bunqueue_trio.errors import StartupError
from bunqueue_trio.runtime.tree import Server
from bunqueue_trio.transports.gateway import Gateway
from bunqueue_trio.transports.quart_app import make_app


async def http(server: Server, *, task_status: trio.TaskStatus[list[str]]) -> None:
    """Serve HTTP on the addresses of the settings until cancelled.

    Raises:
        StartupError: an address cannot be bound.
    """
    settings = server.settings
    config = Config()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    config.bind = [f"{host}:{settings.http_port}"]
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.backlog = BACKLOG
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.h11_max_incomplete_size = HEADER_BYTES_MAX
    config.graceful_timeout = settings.grace_ms / 1000
    app = make_app(server, Gateway(server))
    try:
        await hypercorn_serve(app, config, shutdown_trigger=server.stop.wait, task_status=task_status)
    except OSError as error:
        raise StartupError(f"{config.bind[0]}: cannot listen: {error.strerror or error}") from None
