"""A bulk push that names many others is looked at in several steps, and refused or done as a whole all the same."""

import pytest
import trio

from bunqueue_trio.engine.commands.push import pushes_of
from bunqueue_trio.engine.job import State
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime import half
from tests.runtime.bulk_steps import SLICE, begin, ids_of, spec
from tests.runtime.bulk_steps import small_slices as small_slices
from tests.runtime.runtime_world import Answers, World, settled


@pytest.fixture(autouse=True)
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "LOOKED_AT", SLICE)


def naming(*names: str, n: int = 10) -> c.PushBatch:
    return c.PushBatch(queue="q", jobs=[spec(depends_on=[*names]) for _ in range(n)])


async def test_few_jobs_that_name_many_are_no_small_one(world: World):
    for n in range(SLICE):
        world.core.begin(c.Push(queue="q", data=c.Raw(b"1"), job_id=f"{n}"))
    command = naming(*map(str, range(SLICE)), n=2)
    assert pushes_of(command) == 2 * (1 + SLICE)
    begin(world, command)


async def test_it_is_in_one_commit(nursery: trio.Nursery):
    world = World()
    world.start(nursery)
    await world.push(job_id="a")
    begun = begin(world, naming("a"))
    assert (len(world.engine.jobs), world.journal.half.is_there) == (1, True)
    ids = await ids_of(world, begun)
    assert {world.state(job_id) for job_id in ids} == {State.WAITING_CHILDREN}
    assert world.journal.commits == 2
    assert len(world.stored()) == 11


@pytest.mark.parametrize("away_s", [0, 0.01], ids=["here", "a network away"])
async def test_one_that_is_refused_in_a_later_step_leaves_nothing_behind(nursery: trio.Nursery, away_s: float):
    world = World(away_s=away_s)
    world.start(nursery)
    await world.push(job_id="a")
    command = naming("a")
    command.jobs[-1] = spec(depends_on=["nobody"])
    with pytest.raises(Refused, match=r"^jobs\[9\]: Dependency job not found: nobody$"):
        await world.core.execute(command)
    assert dict(world.engine.jobs).keys() == {"a"}
    assert (world.journal.half.is_there, world.engine.reserved) == (False, None)
    assert world.journal._bytes == 0
    await world.core.execute(naming("a"))
    assert len(world.stored()) == 11


async def test_what_a_small_one_names_and_cannot_be_read_refuses_all_of_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    """As a page that is damaged: no job is in, and the next ones are taken."""
    world = World()
    world.start(nursery)
    await world.push(job_id="a")
    outcomes = world.store.outcomes

    def unreadable(job_ids: list[str]) -> dict[str, State]:
        if "b" in job_ids:
            raise StoreError("the file is damaged")
        return outcomes(job_ids)

    monkeypatch.setattr(world.store, "outcomes", unreadable)
    command = naming("a", n=1)
    command.jobs.append(spec(depends_on=["b"]))
    with pytest.raises(StoreError, match="damaged"):
        await world.core.execute(command)
    assert dict(world.engine.jobs).keys() == {"a"}
    assert (world.journal.half.is_there, world.engine.reserved, world.journal._bytes) == (False, None, 0)
    await world.core.execute(naming("a"))
    assert len(world.stored()) == 11


async def test_its_refusal_waits_for_no_commit_of_others(world: World):
    """It changes nothing; the disk may refuse what others have changed meanwhile."""
    command = naming(n=10)
    command.jobs[-1] = spec(depends_on=["nobody"])
    begun = begin(world, command)
    other = world.core.begin(c.Push(queue="q", data=c.Raw(b"1")))
    assert other.epoch
    await world.core.add_rest(begun)
    assert (begun.epoch, begun.refused is not None) == (0, True)
    with pytest.raises(Refused, match="nobody"):
        await world.core.finish(begun)


async def test_others_commit_once_it_is_refused(nursery: trio.Nursery, answers: Answers):
    world = answers.world = World()
    world.start(nursery)
    command = naming(n=10)
    command.jobs[-1] = spec(depends_on=["nobody"])
    await answers.ask("bulk", world.core.execute, command)
    await answers.ask("other", world.push, "other")
    await settled()
    assert "other" in answers


async def test_one_whose_dependencies_cannot_be_read_in_a_later_step_leaves_nothing_behind(nursery: trio.Nursery):
    """Else the next one found that another was under way: nothing would have been committed any more."""
    world = World()
    world.start(nursery)
    ended = await world.push()
    await world.pull()
    await world.ack(ended)
    command = c.PushBatch(queue="q", jobs=[spec(job_id=f"{n}") for n in range(10)])
    command.jobs[-1] = spec(depends_on=[ended])
    begun = begin(world, command)
    world.store.blind = True
    with pytest.raises(StoreError, match="unreadable"):
        await world.core.finish(begun)
    assert (len(world.engine.jobs), world.journal.half.is_there, world.engine.reserved) == (0, False, None)
    world.store.blind = False
    assert await world.push("other", job_id="1") == "1"
    await world.core.execute(naming(ended))
    assert len(world.stored()) == 11
