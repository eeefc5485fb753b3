"""`events` and `export`: what happened in some time, and all jobs of a filter, in a shell."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import trio

from bunqueue_trio.api.downloads import ROOM_WAIT_S, BrokenOff, JobList, event_log, job_list
from bunqueue_trio.errors import Refused, StoreError
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.commands.find import Filter
from bunqueue_trio.runtime.slices import DOWNLOADS_WAITING_MAX, TOLD_S
from bunqueue_trio.storage.store import Retention
from bunqueue_trio.testing.server import Bunqueue
from tests.looks import look
from tests.operations.test_sisters import Shell
from tests.ui.night import fail, push
from tests.ui.site import hang_up


@pytest.fixture
async def shell(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(bunqueue, monkeypatch)


def clock(bunqueue: Bunqueue, ago_s: int) -> str:
    """A time of this machine's clock."""
    return (
        datetime.fromtimestamp(bunqueue.server.clock.now() / 1000 - ago_s, UTC)
        .astimezone()
        .strftime("%Y-%m-%d %H:%M:%S")
    )


async def test_events_of_some_time_are_shown_oldest_first(shell: Shell, bunqueue: Bunqueue):
    early = await push(bunqueue, "other")
    await trio.sleep(3600)
    inside = [await push(bunqueue, "a", f'{{"n":{n}}}') for n in range(3)]
    await fail(bunqueue, "a", 1, "no such host")
    await trio.sleep(600)
    late = await push(bunqueue, "b")
    done = await shell("events", "--since", clock(bunqueue, 700), "--until", clock(bunqueue, 500))
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["pushed"] * 3 + ["pulled", "failed"]
    assert all(job in done.stdout for job in inside[1:])
    assert late not in done.stdout
    assert "no such host" in lines[-1]
    assert "data=" not in done.stdout
    # Without a word it is the last quarter of an hour, until now.
    assert late in (await shell("events")).stdout
    assert early not in (await shell("events")).stdout
    assert early in (await shell("events", "--since", "2h")).stdout


async def test_events_are_chosen_and_read_by_a_program(shell: Shell, bunqueue: Bunqueue):
    jobs = [await push(bunqueue, queue, '{"n":1}') for queue in ("a", "b", "a")]
    # Whose payload only names one.
    await push(bunqueue, "other", f'{{"jobId":"{jobs[1]}"}}')
    await fail(bunqueue, "a", 1, "boom")
    told = [json.loads(line) for line in (await shell("events", "--queue", "a", "--json")).stdout.splitlines()]
    assert {each["queue"] for each in told} == {"a"}
    assert told[0]["data"] == {"n": 1}
    told = [json.loads(line) for line in (await shell("events", "--type", "failed", "--json")).stdout.splitlines()]
    assert [each["error"] for each in told] == ["boom"]
    told = [json.loads(line) for line in (await shell("events", "--job", jobs[1], "--json")).stdout.splitlines()]
    assert [(each["eventType"], each["jobId"]) for each in told] == [("pushed", jobs[1])]
    assert "data=" in (await shell("events", "--data")).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--since", "25:00"), "'25:00' is no time such as 02:05"),
        (("--since", "1m", "--until", "2m"), "that ends before it begins"),
        (("--type", "paused"), "'paused' is not one of"),
    ],
)  # fmt: skip
async def test_what_is_no_time_is_wrong_usage(shell: Shell, words: tuple[str, ...], says: str):
    done = await shell("events", *words)
    assert done.exit_code == 2
    assert says in done.output


async def test_all_jobs_of_a_filter_are_written_a_line_each(shell: Shell, bunqueue: Bunqueue):
    ids = [await push(bunqueue, "a", f'{{"n":\n{n}}}', tags=["x"] if n % 2 else []) for n in range(250)]
    done = await shell("export", "--tag", "x")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["id"] for each in told] == ids[1::2]
    assert told[0]["data"] == {"n": 1}
    listed = await shell("jobs", "--tag", "x", "--limit", "1000", "--json")
    assert told == [json.loads(line) for line in listed.stdout.splitlines()]
    assert len((await shell("export")).stdout.splitlines()) == 250
    assert (await shell("export", "--tag", "none")).stdout == ""
    await push(bunqueue, "a", '"\x9b31m\u202ehi"', tags=["odd"])
    odd = (await shell("export", "--tag", "odd")).stdout
    assert r"\u009b31m\u202ehi" in odd
    assert json.loads(odd)["data"] == "\x9b31m\u202ehi"


SAID = {
    "what stands between tokens": ('{\n\t"to":\r\n\t"x"\n}', '{"to":"x"}'),
    "beyond a double": ('{"n":1e999,"m":12345678901234567.25}', None),
    "an integer of many digits": (f'{{"n":{"9" * 5000}}}', None),
}
"""What is pushed, and what a program reads of it: to the byte of each number, but for what stands between tokens."""


@pytest.mark.parametrize(("pushed", "read"), SAID.values(), ids=SAID)
async def test_programs_read_each_payload_as_it_was_pushed(shell: Shell, bunqueue: Bunqueue, pushed: str, read: str):
    job_id = await push(bunqueue, "a", pushed)
    now, since = clock(bunqueue, -1), clock(bunqueue, 60)
    shown = {
        "export": await shell("export"),
        "events": await shell("events", "--since", since, "--until", now, "--type", "pushed", "--json"),
        "jobs": await shell("jobs", "a", "--json"),
        "job": await shell("job", job_id, "--json"),
    }
    for command, done in shown.items():
        assert done.stdout.count("\n") == 1, command
        json.loads(done.stdout, parse_int=str, parse_constant=pytest.fail)
        data = msgspec.json.decode(done.stdout, type=dict[str, msgspec.Raw])["data"]
        assert bytes(data).decode().replace(" ", "") == (read or pushed), command


async def test_jobs_are_moved_from_a_shell(shell: Shell, bunqueue: Bunqueue):
    await push(bunqueue, "a", unique_key="k")
    await push(bunqueue, "a")
    await push(bunqueue, "b", unique_key="k")
    tried = await shell("change", "--queue", "a", "--move-to", "b", "--dry-run")
    assert "1 job would be moved (not key-held: 1)" in tried.stdout
    done = await shell("change", "--queue", "a", "--move-to", "b", "--yes")
    assert "1 job moved (not key-held: 1)" in done.stdout
    told = look(bunqueue.server.core, c.GetQueue(queue="b"))
    assert told.queue.counts["waiting"] == 2
    acts = await shell("actions")
    assert "change --move-to" in acts.stdout
    for words in (("--move-to", "b", "x"), ("--queue", "a", "--move-to", "b", "--priority", "3")):
        assert (await shell("change", *words)).exit_code == 2


async def test_a_download_waits_for_room_and_breaks_off_without(bunqueue: Bunqueue):
    server = bunqueue.server
    for n in range(1200):
        await push(bunqueue, "a", f'"{n:01000}"')
    feed = await event_log(server, "").begun()
    assert await anext(feed)
    with server.buffers.hold() as others:
        others.add(10**9)
        with trio.move_on_after(ROOM_WAIT_S / 2) as early:
            await anext(feed)
        assert early.cancelled_caught
        with pytest.raises(BrokenOff, match="no room"):
            await anext(feed)
        with pytest.raises(Refused, match="overloaded"):
            await job_list(server, "").begun()
    assert await anext(feed)
    await feed.aclose()
    assert server.buffers.held == 0


MIB = 1024 * 1024


async def test_what_a_download_has_made_counts_from_when_it_is_made(bunqueue: Bunqueue):
    server = bunqueue.server
    for n in range(4):
        await push(bunqueue, "a", f'"{n}{"x" * 3 * MIB}"')
    limit = server.buffers._limit = 20 * MIB
    feeds = [await job_list(server, "").begun()]
    each = server.buffers.held
    assert each > 3 * MIB
    while server.buffers.held + each <= limit:
        feeds.append(await job_list(server, "").begun())
    with pytest.raises(Refused, match="overloaded"):
        await job_list(server, "").begun()
    assert server.buffers.held == len(feeds) * each
    for feed in feeds:
        await feed.aclose()
    assert server.buffers.held == 0


async def test_none_begins_while_many_wait_for_a_part_and_who_does_not_read_waits_for_none(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
):
    server = bunqueue.server
    await push(bunqueue, "a", "1")
    idle = [await job_list(server, "").begun() for _ in range(2 * DOWNLOADS_WAITING_MAX)]
    made = JobList.part

    async def slow(self: JobList) -> bytes | None:
        await trio.sleep(1)
        return await made(self)

    monkeypatch.setattr(JobList, "part", slow)
    async with trio.open_nursery() as nursery:
        for _ in range(DOWNLOADS_WAITING_MAX + 1):
            nursery.start_soon(job_list(server, "").begun)
        await trio.sleep(0.5)
        with pytest.raises(Refused, match="overloaded"):
            await event_log(server, "").begun()
        await trio.sleep(2)
        assert await anext(await event_log(server, "").begun())
    for feed in idle:
        await feed.aclose()


async def test_an_act_waits_for_no_more_than_one_of_many_downloads(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    async def endless(self: JobList) -> bytes | None:
        await trio.sleep(0.05)
        return b""

    monkeypatch.setattr(JobList, "part", endless)
    for _ in range(1500):
        await push(bunqueue, "a", "1")

    async def read() -> None:
        feed = await job_list(bunqueue.server, "").begun()
        async for _ in feed:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(read)
        await trio.sleep(1)
        begun = trio.current_time()
        command = c.ActOnJobs(filter=Filter(queue=["a"]), action="discard", limit=1500)
        told: Any = await bunqueue.server.core.execute(command)
        assert (told.count, told.next) == (1500, None)
        # Of its slices each waits for one of theirs, with the rest behind it.
        assert trio.current_time() - begun <= TOLD_S
        nursery.cancel_scope.cancel()


async def test_who_waits_for_room_for_a_large_part_holds_nothing_and_gets_it_then(bunqueue: Bunqueue):
    server = bunqueue.server
    for n in range(3):
        await push(bunqueue, "a", f'"{n}{"x" * 3 * MIB}"')
    feed = await job_list(server, "").begun()
    lines = [await anext(feed)]
    with server.buffers.hold() as others:
        # Enough to begin the next part, and not for the whole of it.
        others.add(server.buffers._limit - 2 * MIB)
        with trio.move_on_after(ROOM_WAIT_S / 2) as early:
            await anext(feed)
        assert early.cancelled_caught
        assert server.buffers.held == others.size
    lines += [part async for part in feed]
    assert [json.loads(line)["data"][0] for line in b"".join(lines).splitlines()] == ["0", "1", "2"]
    await feed.aclose()
    assert server.buffers.held == 0


async def test_however_many_downloads_there_are_most_of_the_time_is_for_others(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
):
    made = JobList.part

    async def slow(self: JobList) -> bytes | None:
        spent.append(trio.current_time())
        await trio.sleep(0.004)
        return await made(self)

    monkeypatch.setattr(JobList, "part", slow)
    for n in range(500):
        await push(bunqueue, "a", str(n))
    told, spent = list[bytes](), list[float]()

    async def read() -> None:
        feed = await job_list(bunqueue.server, "").begun()
        told.append(b"".join([part async for part in feed]))
        await feed.aclose()

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(read)
    assert [each.count(b"\n") for each in told] == [500] * 20
    assert len(spent) * 0.004 <= (trio.current_time() - begun) / 4.9
    # One after the other, each as often as any other.
    assert spent == sorted(spent)


async def test_a_download_breaks_off_where_events_go_before_they_are_sent(bunqueue: Bunqueue):
    for n in range(1200):
        await push(bunqueue, "a", str(n))
    feed = await event_log(bunqueue.server, "").begun()
    assert await anext(feed)
    forget_events(bunqueue)
    with pytest.raises(BrokenOff, match="not kept any more"):
        [part async for part in feed]
    await feed.aclose()


async def test_what_goes_before_the_first_byte_is_no_part_of_a_download(
    bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch
):
    for n in range(1200):
        await push(bunqueue, "a", str(n))
    replay = bunqueue.server.hub.replay

    async def after_they_went(**wanted: Any) -> Any:
        monkeypatch.undo()
        forget_events(bunqueue)
        return await replay(**wanted)

    monkeypatch.setattr(bunqueue.server.hub, "replay", after_they_went)
    feed = await event_log(bunqueue.server, "").begun()
    lines = b"".join([part async for part in feed]).splitlines()
    assert json.loads(lines[-1])["data"] == 1199
    assert len(lines) < 1200
    await feed.aclose()


def forget_events(bunqueue: Bunqueue) -> None:
    """Keep the events of the last commit, and no older ones."""
    store = bunqueue.server.store
    while store.prune(Retention(10**6, 10**6, 0, 1, 0)):
        pass


async def test_a_download_breaks_off_where_the_disk_cannot_be_read(bunqueue: Bunqueue, monkeypatch: pytest.MonkeyPatch):
    for n in range(1200):
        await push(bunqueue, "a", str(n))
    feed = await event_log(bunqueue.server, "").begun()
    await anext(feed)

    def broken(*_: object) -> None:
        raise StoreError("no")

    monkeypatch.setattr(bunqueue.server.store, "events_after", broken)
    with pytest.raises(BrokenOff, match="no"):
        await anext(feed)
    await feed.aclose()


@pytest.mark.parametrize("target", ["/export/jobs", "/ui/export/jobs", "/ui/export/events"])
async def test_who_goes_before_anything_is_sent_leaves_room_for_others(bunqueue: Bunqueue, target: str):
    """A client that does so often would fill the server for good."""
    for _ in range(3):
        await push(bunqueue, "q", '"' + 100_000 * "x" + '"')
    assert await hang_up(bunqueue, target, lambda: bunqueue.server.buffers.held) > 100_000
    assert bunqueue.server.buffers.held == 0
