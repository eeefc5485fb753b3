"""What operators have done."""

from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_what_was_done_is_listed_newest_first(api: Api, queue: str):
    job_id = await api.push(queue, delay=60_000)
    await api.run(c.Pause(queue=queue, reason="look"))
    await api.run(c.Promote(id=job_id))
    await api.run(c.Drain(queue=queue))
    await api.run(c.Drain(queue=queue))  # nothing is left
    page = await api.run(c.Actions(limit=3))
    told = [(act.command, act.queue, act.job, act.fields, act.count) for act in page.actions]
    assert told == [
        ("Drain", queue, None, {}, 1),
        ("Promote", None, job_id, {}, 1),
        ("Pause", queue, None, {"reason": "look"}, 1),
    ]
    assert {(act.who, act.address) for act in page.actions} == {("127.0.0.1", "127.0.0.1")}
    assert page.total >= 3
    newer = await api.run(c.Actions(limit=2))
    older = await api.run(c.Actions(limit=1, after=newer.next))
    assert newer.actions + older.actions == page.actions
    assert await api.refused(c.Actions(after="first")) is c.NOT_A_PLACE
