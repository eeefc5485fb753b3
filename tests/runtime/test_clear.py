"""What is deleted is answered when it is committed, though no job has changed."""

import trio

from bunqueue_trio.protocol import commands as c
from tests.runtime.runtime_world import Answers, World
from tests.storage.faulty import Fault


async def test_a_deleted_record_is_gone_from_the_disk_when_it_is_answered(answers: Answers, nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    job = await world.push()
    assert await world.pull() == job
    await world.ack(job)
    assert world.store.inner.find(job) is not None
    world.store.commits = iter([Fault.REFUSED])

    async def clean() -> object:
        return await world.core.execute(c.Clean(queue="q", state="completed"))

    await answers.ask("clean", clean)
    assert "clean" not in answers
    await trio.sleep(1)
    assert answers["clean"].ids == [job]
    assert world.store.inner.find(job) is None
