"""What a command needs of a store that is a network away is looked up before its step, and is what is so in that step."""

from typing import Any

import pytest
import trio

from bunqueue_trio import errors
from bunqueue_trio.api.gateway import Gateway
from bunqueue_trio.config import REPEATS_MAX, Settings
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime import lookups
from bunqueue_trio.runtime.clock import Clock
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.storage.memory import MemoryStore
from tests.runtime.runtime_world import AWAY_S, START_MS, Answers, Ids, World, store
from tests.storage.distant import DistantStore

SLOW_S = 1.0  # as long as many commits


async def completed(world: World, job_id: str | None = None) -> str:
    job_id = await world.push("done", job_id=job_id)
    await world.pull("done")
    await world.ack(job_id)
    return job_id


async def dead(world: World, **options: Any) -> str:
    job_id = await world.push("dead", max_attempts=1, **options)
    await world.pull("dead")
    await world.fail(job_id)
    return job_id


async def test_an_ended_job_is_looked_up(distant: World):
    job_id = await completed(distant)
    before = distant.now_ms()
    assert (await distant.core.execute(c.GetState(id=job_id))).state == "completed"
    assert distant.now_ms() - before == 2 * AWAY_S * 1000
    assert store(distant).asked == ["find"]
    with pytest.raises(Refused, match=errors.JOB_NOT_FOUND.message):
        await distant.core.execute(c.GetState(id="nobody"))
    assert isinstance(distant.core, lookups.AwaitingCore)
    assert distant.core._lookups._looks == {}, "answers that nobody needs any more are not kept"


async def test_what_is_in_memory_is_not_looked_up(distant: World):
    job_id = await distant.push()
    assert (await distant.core.execute(c.GetState(id=job_id))).state == "waiting"
    await distant.push(depends_on=[job_id])
    assert store(distant).asked == []


async def test_dependencies_that_have_ended_are_looked_up_all_at_once(distant: World):
    done = [await completed(distant) for _ in range(3)]
    spec = c.JobSpec(data=c.Raw(b"1"), depends_on=done)
    reply = await distant.core.execute(c.PushBatch(queue="q", jobs=[spec, spec]))
    assert [distant.engine.jobs[job_id].state for job_id in reply.ids] == [State.WAITING] * 2
    assert store(distant).asked == ["outcomes"]
    with pytest.raises(Refused, match="nobody"):
        await distant.push(depends_on=[done[0], "nobody"])


async def test_a_job_that_ends_while_it_is_looked_up_is_looked_up_again(distant: World, nursery: trio.Nursery):
    answers = Answers(distant, nursery)
    store(distant).look_s = SLOW_S
    await answers.ask("state", distant.core.execute, c.GetState(id="late"))
    await trio.sleep(1.5 * SLOW_S)  # the answer is on its way: it is not known
    await completed(distant, "late")
    assert "late" not in distant.engine.jobs
    await trio.sleep(3 * SLOW_S)
    assert answers["state"].state == "completed"
    assert store(distant).asked == ["find", "find"]


async def test_a_dead_letter_that_is_deleted_meanwhile_does_not_come_back(distant: World, nursery: trio.Nursery):
    job_id = await dead(distant)
    answers = Answers(distant, nursery)
    store(distant).look_s = SLOW_S
    for name, command in (("one", c.RetryDlq(queue="dead", job_id=job_id)), ("all", c.RetryDlq(queue="dead"))):
        await answers.ask(name, distant.core.execute, command)
    await trio.sleep(1.5 * SLOW_S)
    store(distant).look_s = AWAY_S
    await distant.core.execute(c.PurgeDlq(queue="dead"))
    await trio.sleep(3 * SLOW_S)
    assert isinstance(answers["one"], Refused)
    assert answers["all"].count == 0
    assert distant.stored() == {}


async def test_who_asks_twice_is_answered_twice(distant: World):
    first = await dead(distant)
    await distant.core.execute(c.RetryDlq(queue="dead"))
    second = await distant.push("dead", depends_on=[first])
    await distant.pull("dead")
    await distant.fail(first)
    await trio.sleep(10 * AWAY_S)
    store(distant).asked.clear()
    reply = await distant.core.execute(c.RetryDlq(queue="dead"))
    assert reply.count == 2
    assert store(distant).asked == ["records", "outcomes"]
    assert (distant.state(first), distant.state(second)) == (State.WAITING, State.WAITING_CHILDREN)


async def test_what_changes_again_and_again_is_refused_in_the_end(distant: World, monkeypatch: pytest.MonkeyPatch):
    job_id = await completed(distant)
    monkeypatch.setattr(lookups._Look, "is_fresh", False)
    with pytest.raises(Refused, match=errors.OVERLOADED.message):
        await distant.core.execute(c.GetResult(id=job_id))
    assert len(store(distant).asked) == REPEATS_MAX


async def test_a_store_that_does_not_answer_is_reported_as_such(distant: World):
    job_id = await completed(distant)
    store(distant).blind = True
    with pytest.raises(Refused, match=errors.STORAGE_DOWN.message):
        await distant.core.execute(c.GetJob(id=job_id))
    store(distant).blind = False
    assert (await distant.core.execute(c.GetJob(id=job_id))).job.id == job_id


async def test_nothing_is_left_of_a_command_that_is_cancelled_while_it_asks(distant: World):
    job_id = await completed(distant)
    core = distant.core
    assert isinstance(core, lookups.AwaitingCore)
    for cut_s in (0.5 * AWAY_S, 1.5 * AWAY_S):
        with trio.move_on_after(cut_s):
            await core.execute(c.Push(queue="q", data=c.Raw(b"1"), depends_on=[job_id]))
        assert core._lookups._looks == {}
    assert distant.stored() == {}


async def test_a_command_that_asks_is_no_pull_that_one_could_stop(distant: World):
    job_id = await completed(distant)
    asking = distant.core.begin(c.GetState(id=job_id))
    assert asking.waits
    assert not distant.core.stop_poll(asking)
    assert (await distant.core.finish(asking)).state == "completed"
    waiting = distant.core.begin(c.Pull(queue="q", timeout=1000))
    assert distant.core.stop_poll(waiting)


async def test_a_whole_server_answers_from_it(nursery: trio.Nursery):
    server = Server(Settings(), DistantStore(MemoryStore(), away_s=AWAY_S), Clock(START_MS), Ids())
    for child in server.tasks:
        nursery.start_soon(child.run)
    gateway = Gateway(server)

    async def ask(method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        response = await gateway.respond(gateway.resolve(method, target, {}), body)
        assert isinstance(response.body, bytes)
        if response.delivery is not None:
            response.delivery.sent()
        return response.status, response.body

    assert await ask("POST", "/queues/q/jobs", b'{"data":1,"jobId":"a"}') == (200, b'{"ok":true,"id":"a"}')
    status, body = await ask("GET", "/queues/q/jobs")
    assert (status, b'"id":"a"' in body) == (200, True)
    assert await ask("POST", "/jobs/a/ack", b'{"result":7}') == (200, b'{"ok":true}')
    assert await ask("GET", "/jobs/a/result") == (
        200,
        b'{"ok":true,"id":"a","result":7}',
    )
    assert (await ask("GET", "/jobs/b/result"))[0] == 404
    assert (await ask("POST", "/queues/q/jobs", b'{"data":1,"dependsOn":["a"]}'))[0] == 200
    assert (await ask("POST", "/queues/q/jobs", b'{"data":1,"dependsOn":["b"]}'))[0] == 400
    nursery.cancel_scope.cancel()


# --- another server --------------------------------------------------------------------------------


async def test_nothing_is_said_while_another_server_may_know_better(distant: World):
    await distant.push("a")
    assert isinstance(distant.store, DistantStore)
    distant.store.is_led = False
    for command in (c.GetState(id="id-000001"), c.Pull(queue="q"), c.Push(queue="q", data=c.Raw(b"1"))):
        with pytest.raises(Refused) as refused:
            await distant.core.execute(command)
        assert (refused.value.status, distant.core.is_sure) == (503, False)
    distant.store.is_led = True
    assert (await distant.core.execute(c.GetState(id="id-000001"))).state == "waiting"
