"""A program that forks after it has made a client: no process hears what was said to another one."""

import os
import subprocess
import sys
import textwrap

import pytest

from bunqueue_trio.sync import SyncClient
from tests.wire.server import Server, environment

FORKS = """
import os, sys, threading
from bunqueue_trio.sync import SyncClient

url, queue = sys.argv[1:]
client = SyncClient(url, timeout=60)
mine = client.introduce("parent")
client.push(queue, "begun")
children = []
for n in range(4):
    child = os.fork()
    if child == 0:
        try:
            # No worker is two processes.
            assert client._worker is None
            for i in range(50):
                job_id = client.push(queue, [n, i])
                assert client.get(job_id)["data"] == [n, i]
            job = client.pull(queue)
            job.ack()
            assert client.introduce("child") != mine
            client.close()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)

def more(name):
    for i in range(50):
        job_id = client.push(queue, [name, i])
        assert client.get(job_id)["data"] == [name, i]

threads = [threading.Thread(target=more, args=(name,)) for name in "ab"]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
print(client.stats()["stats"]["totalPushed"] > 0, mine == client._worker)
"""

ELSEWHERE = """
import os, sys
import anyio
from bunqueue_trio import Client

url, queue = sys.argv[1:]

async def in_child(client):
    try:
        await client.push(queue)
    except RuntimeError as error:
        assert "in another process, before a fork" in str(error), error
        async with Client(url) as own:
            await own.push(queue, "child")
        os._exit(0)
    os._exit(1)

async def main():
    async with Client(url) as client:
        await client.push(queue, "parent")
        child = os.fork()
        if child == 0:
            os._exit(subprocess_of(client))
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        jobs = await client.pull_many(queue, 9)
        print(sorted(job.data for job in jobs))

def subprocess_of(client):
    import threading
    # A loop within a loop has a thread of its own; the client's is that of the parent.
    found = []
    def run():
        try:
            anyio.run(in_child, client, backend=BACKEND)
        except BaseException as error:
            print(repr(error), flush=True)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return 1

anyio.run(main, backend=BACKEND)
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], env=environment(), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_each_process_has_connections_of_its_own(server: Server, queue: str):
    assert run(FORKS, server.url, queue) == "True True\n"


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_client_that_is_open_is_of_the_process_that_opened_it(server: Server, queue: str, loop: str):
    assert run(ELSEWHERE.replace("BACKEND", repr(loop)), server.url, queue) == "['child', 'parent']\n"


WORKERS = """
import os, sys
import trio
from bunqueue_trio import Worker

url, queue = sys.argv[1:]
worker = Worker(queue, url, concurrency=1)
here = worker.id, worker.name

@worker.handler
async def handle(job):
    worker.stop()
    return [worker.id, worker.name, os.getpid()]

for n in range(2):
    if os.fork() == 0:
        trio.run(worker.run)
        os._exit(0)
for n in range(2):
    assert os.wait()[1] == 0
assert here == (worker.id, worker.name)
print(*here)
"""


@pytest.mark.slow
def test_a_worker_that_is_forked_is_two(server: Server, queue: str):
    """By one id, to quiet or to forget one would quiet both."""
    with SyncClient(server.url) as client:
        ids = client.push_many(queue, [{}, {}])
        mine, my_name = run(WORKERS, server.url, queue).split()
        workers = [client.result(job_id) for job_id in ids]
    assert len({worker[0] for worker in workers} | {mine}) == 3
    assert {name.endswith(f"-{pid}") for _, name, pid in workers} == {True}
    assert my_name not in {worker[1] for worker in workers}
