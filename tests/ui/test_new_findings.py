"""An error that is new and frequent, and a worker none of whose jobs ends: each is one finding, with its numbers."""

from typing import Any

import trio
from msgspec.structs import replace

from bunqueue_trio.config import Settings
from bunqueue_trio.engine.figures import bucket_of
from bunqueue_trio.pages.findings import Picture, find, look
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.runtime.history import Past
from bunqueue_trio.runtime.new_errors import NewError
from bunqueue_trio.runtime.picture import WorkerLook
from bunqueue_trio.runtime.statistics import ErrorBack
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import fail, push, take
from tests.ui.pictures_of_servers import GOOD, MINUTE, NOW, found, line, queue
from tests.ui.site import minutes


def new(died: int, *queues: str, ago: int = 5, last: int = 0) -> NewError:
    each = dict.fromkeys(queues or ("q",), died // max(1, len(queues)))
    return NewError("abc", "SMTP said …", NOW - ago * MINUTE, NOW - last * MINUTE, died, each)


def test_a_new_error_stands_in_the_finding_about_its_queue():
    dies = line({"failed": 40, "died": 40})
    (finding,) = find(Picture(GOOD, [queue(dead=40)], Past(queues={"q": dies}, errors=[new(35)])))
    assert finding.code == "jobs-die"
    assert "; 35 jobs of an error that is new for 5 min, 7 a minute: “SMTP said …”; " in finding.evidence
    of_others = Past(queues={"q": dies}, errors=[new(9), new(40, "other", "r")])
    told = {each.code: each for each in find(Picture(GOOD, [queue(dead=40)], of_others))}
    assert told.keys() == {"jobs-die", "error-new"}
    assert "new for" not in told["jobs-die"].evidence


def test_what_began_with_a_new_error_began_with_its_first_death():
    """The minute in which they died begins before there was any job."""
    dies = line({"dead": 0}, {"failed": 40, "died": 40})
    fresh = NewError("abc", "SMTP said …", NOW - MINUTE - 2000, NOW - MINUTE, 40, {"q": 40})
    (finding,) = find(Picture(GOOD, [queue(dead=40)], Past(queues={"q": dies}, errors=[fresh])))
    assert (finding.since, finding.title) == (NOW - MINUTE - 2000, "q: 40 jobs died within 2 s")
    (finding,) = find(
        Picture(GOOD, [queue(dead=40)], Past(queues={"q": dies}, errors=[fresh._replace(queues={"q": 39})]))
    )
    assert finding.since == NOW - 2 * MINUTE, "one died of another error, nobody knows when"


def test_an_error_that_was_back_for_a_while_is_of_the_past():
    for last, until, words in ((NOW - MINUTE, None, "is back"), (NOW - 3 * MINUTE, NOW - 3 * MINUTE, "was back")):
        back = ErrorBack("abc", "Late", "q", NOW - 60 * MINUTE, NOW - 9 * MINUTE, 3, last)
        (finding,) = find(Picture(replace(GOOD, errors_back=(back,)), [], Past()))
        assert (finding.until, finding.title) == (until, f"q: an error that was fixed {words}: Late")


def test_a_new_error_of_which_a_few_die_in_each_of_many_queues_is_found():
    (finding,) = find(Picture(GOOD, [queue(name) for name in "abcd"], Past(errors=[new(20, *"abcd", ago=2)])))
    assert (finding.code, finding.queue, finding.since, finding.until) == ("error-new", None, NOW - 2 * MINUTE, None)
    assert finding.title == "4 queues: an error that is new for 2 min, 10 a minute"
    assert finding.evidence == "20 jobs died of it: 5 of a, 5 of b, 5 of c, 5 of d."
    assert finding.commands == ("bunqueue-trio errors",)
    (over,) = find(Picture(GOOD, [], Past(errors=[new(20, "a", ago=9, last=4)])))
    assert (over.queue, over.until) == ("a", NOW - 4 * MINUTE)
    assert found(Picture(GOOD, [], Past(errors=[new(9)]))) == []


def test_an_error_that_many_are_tried_again_after_is_found_before_any_has_died():
    tried = new(0, *"ab", ago=2)._replace(tried=20, queues={"a": 15, "b": 5})
    (finding,) = find(Picture(GOOD, [queue(name) for name in "ab"], Past(errors=[tried])))
    assert (finding.code, finding.numbers) == ("error-new", {"died": 0, "retrying": 20, "queues": 2})
    assert finding.title == "2 queues: an error that is new for 2 min, 10 a minute"
    assert finding.evidence == "20 jobs are tried again after it, and none has died of it yet: 15 of a, 5 of b."
    both = new(12, "a")._replace(tried=1)
    (finding,) = find(Picture(GOOD, [queue("a")], Past(errors=[both])))
    assert finding.evidence == "12 jobs died of it: 12 of a; 1 job is tried again after it."


async def test_an_error_that_jobs_are_tried_again_after_is_new_for_an_hour(autojump_clock: object) -> None:
    """However often none is tried meanwhile, and however often the server starts anew."""
    async with Bunqueue(Settings()) as bunqueue:

        def errors() -> list[tuple[str, int, int]]:
            return [(each.shape, each.died, each.tried) for each in bunqueue.server.past().errors]

        async def fail_one(text: str) -> None:
            await push(bunqueue, "q", max_attempts=9, backoff=60_000, priority=9)
            [(job_id, token)] = await take(bunqueue, "q", 1)
            await bunqueue.server.core.execute(c.Fail(id=job_id, token=token, error=text))

        await fail_one("no room for 7")
        assert errors() == [("no room for …", 0, 1)]
        since = bunqueue.server.past().errors[0].since
        await trio.sleep(61)
        await take(bunqueue, "q", 1)
        assert errors() == []
        await fail_one("no room for 8")
        assert bunqueue.server.past().errors[0].since == since
        await minutes(bunqueue, 61)
        await fail_one("no room for 9")
        assert errors() == []
        await fail_one("another one")
        assert errors() == [("another one", 0, 1)]
        await bunqueue.crash()
        await bunqueue.recover()
        assert errors() == []


async def test_what_is_new_is_what_no_dead_letter_is_of(autojump_clock: object) -> None:
    async with Bunqueue(Settings()) as bunqueue:
        run, server = bunqueue.server.core.execute, bunqueue.server

        def errors() -> list[tuple[str, int]]:
            return [(each.shape, each.died) for each in server.past().errors]

        for _ in range(7):
            await push(bunqueue, "q")
        await fail(bunqueue, "q", 3, "no room for {}")
        assert [died for _, died in errors()] == [3]
        parent = await push(bunqueue, "r")
        await push(bunqueue, "r", depends_on=[parent])
        await run(c.Discard(id=parent))
        await run(c.Discard(id=(await take(bunqueue, "q", 1))[0][0]))
        await run(c.Cancel(id=(await take(bunqueue, "q", 1))[0][0], reason="no"))
        assert len(errors()) == 1, "nobody's word, and no job that waited for another"
        key = server.past().errors[0].fingerprint
        for mark in ("muted", "fixed"):
            await run(c.MarkGroup(fingerprint=key, mark=mark))
            assert errors() == [], "somebody knows of it; once it is back, that is what is said of it"
        await run(c.MarkGroup(fingerprint=key, mark="none"))
        await minutes(bunqueue, 61)
        await fail(bunqueue, "q", 1, "no room for {}")
        assert errors() == [], "it is not new again"
        again = type(server.history.errors)()
        again.load(server.store.dead_groups.sizes(None))
        await fail(bunqueue, "q", 1, "no room for {}")
        assert again.told(()) == ()


USUAL = Past(queues={"mails": line({"completed": 60, "runs": {bucket_of(2000): 60}})})


def worker(newest: int, **fields: Any) -> WorkerLook:
    return WorkerLook("w-3", "mail-3", 5, ("mails",), NOW - newest * MINUTE, NOW - 40 * MINUTE)._replace(**fields)


def test_a_worker_none_of_whose_jobs_ends_is_one_finding():
    jobs = queue("mails", active=5, active_since=NOW - 40 * MINUTE, active_id="h", active_at="mail-3")
    (finding,) = find(Picture(GOOD, [jobs], USUAL, workers=[worker(12)]))
    assert (finding.code, finding.since, finding.queue) == ("worker-hangs", NOW - 40 * MINUTE, "mails")
    assert finding.title == "Worker mail-3: none of its 5 jobs ends, the newest has been active for 12 min"
    assert "times as long; the oldest has been active for 40 min." in finding.evidence
    assert finding.commands[-1] == "bunqueue-trio workers release w-3"
    assert found(Picture(GOOD, [jobs], USUAL, workers=[worker(3)])) == ["job-stuck"], "one of its jobs has come lately"
    other = jobs._replace(active_at="mail-4")
    assert found(Picture(GOOD, [other], USUAL, workers=[worker(12)])) == ["worker-hangs", "job-stuck"]
    assert found(Picture(GOOD, [], Past(), workers=[worker(12)])) == [], "nobody knows what is usual"
    bills = queue("bills", active=2, active_since=NOW - 30 * MINUTE, active_id="b", active_at="mail-3")
    (finding,) = find(Picture(GOOD, [jobs, bills], USUAL, workers=[worker(12, queues=("mails", "bills"))]))
    assert (finding.code, finding.queue) == ("worker-hangs", None), "of whatever queues its jobs are"
    assert "bunqueue-trio jobs --owner mail-3 --state active" in finding.commands


async def test_a_worker_that_hangs_is_seen_and_one_that_works_is_not(autojump_clock: object) -> None:
    async with Bunqueue(Settings()) as bunqueue:
        run, server = bunqueue.server.core.execute, bunqueue.server
        for _ in range(12):
            await push(bunqueue, "q")
        for name in ("hangs", "works", "a few"):
            await run(c.RegisterWorker(worker_id=name))
            await run(c.PullBatch(queue="q", count=2 if name == "a few" else 3, owner=name, lock_ttl=3_600_000))
        assert server.look_at_workers() == ()
        await trio.sleep(60)
        assert [(each.name, each.jobs, each.queues) for each in server.look_at_workers()] == [
            ("hangs", 3, ("q",)),
            ("works", 3, ("q",)),
        ]
        await run(c.Pull(queue="q", owner="works", lock_ttl=3_600_000))
        (seen,) = server.look_at_workers()
        assert (seen.name, seen.newest_since) == ("hangs", seen.oldest_since)
        assert (await look(server))[0].workers == (seen,)
