"""The log of a job."""

from bunqueue_trio import errors
from bunqueue_trio.protocol import commands as c
from tests.commands.carriers import Api


async def test_a_log_is_written_read_and_cleared(api: Api, queue: str):
    job_id = await api.push(queue)
    for message, level in (("ünï 🐇\n", "info"), ("", "warn"), ("x" * 65_536, "error")):
        added = await api.run(c.AddLog(id=job_id, message=message, level=level))  # type: ignore[arg-type]
        assert added.data == {"added": True}
    page = (await api.run(c.GetLogs(id=job_id, limit=2))).data
    assert [(line.level, line.message) for line in page.logs] == [("info", "ünï 🐇\n"), ("warn", "")]
    assert page.count == 3
    rest = (await api.run(c.GetLogs(id=job_id, after=page.next))).data
    assert [(line.level, len(line.message)) for line in rest.logs] == [("error", 65_536)]
    assert rest.next is None
    assert await api.refused(c.GetLogs(id=job_id, after="x")) is c.NOT_A_PLACE
    await api.run(c.ClearLogs(id=job_id))
    assert (await api.run(c.GetLogs(id=job_id))).data.logs == []
    for command in (c.AddLog(id="nobody", message="x"), c.GetLogs(id="nobody"), c.ClearLogs(id="nobody")):
        assert await api.refused(command) is errors.JOB_NOT_FOUND


async def test_a_log_stays_with_the_record(api: Api, queue: str):
    job_id = await api.push(queue)
    _, token = await api.take(queue)
    await api.run(c.AddLog(id=job_id, message="while"))
    await api.run(c.Ack(id=job_id, token=token))
    await api.run(c.AddLog(id=job_id, message="after"))
    assert [line.message for line in (await api.run(c.GetLogs(id=job_id))).data.logs] == ["while", "after"]
