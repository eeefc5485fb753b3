"""What is answered without a job."""

from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_the_server_says_that_it_is_there_and_how_it_does(api: Api):
    pong = (await api.run(c.Ping())).data
    assert isinstance(pong, dict)
    assert pong["pong"] is True
    stats = await api.run(c.Stats())
    assert {"queued", "processing", "totalPushed"} <= set(stats.stats)
    assert stats.memory["rss"] > 0


async def test_the_server_says_what_its_disk_holds(api: Api, queue: str):
    await api.push(queue)
    held = (await api.run(c.StorageStatus())).data
    assert (held.disk_full, held.error, held.since) == (False, None, None)
    assert held.jobs["waiting"] >= 1
    assert held.retention.events_max is None or held.retention.events_max > 0
