"""What a new server listens on before its file is made: for itself, or for its doors."""

from pathlib import Path

import pytest
import trio

from bunqueue_trio.config import Settings
from bunqueue_trio.transports.sockets import open_first


@pytest.mark.parametrize("doors", [0, 2])
async def test_each_door_has_a_socket_and_the_server_none(tmp_path: Path, doors: int) -> None:
    opened = await open_first(Settings(data_path=f"{tmp_path}/q.db", bind=("127.0.0.1:0",), doors=doors))
    assert opened is not None
    found = len(opened.listeners), [len(sockets) for sockets in opened.dealt], len(opened.addresses)
    with trio.fail_after(60):
        await opened.close()
    assert found == (int(not doors), [1] * doors, 1)
