"""Groups of dead letters: what is counted, what is shown of them, and that a page of them is bounded."""

import random
from collections import Counter
from typing import Any

import pytest
from msgspec import Raw

from bunqueue_trio.engine import groups
from bunqueue_trio.engine.fingerprint import fingerprint
from bunqueue_trio.engine.ranking import FIRST, DeadGroups, Rank, Ranking
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.storage import rows
from bunqueue_trio.storage.making import make_batch
from tests.engine.make import T0, Bench


def die(bench: Bench, error: str, queue: str = "q", **options: Any) -> str:
    job_id = bench.push(queue, max_attempts=1, **options)
    assert bench.pull_id(queue) == job_id
    bench.now += 1
    bench.fail(job_id, error)
    bench.commit()
    return job_id


def told(bench: Bench, queue: str | None = None, **how: Any) -> list[tuple[str, int, dict[str, int]]]:
    command = c.DeadGroups(**how) if queue is None else c.DlqGroups(queue=queue, **how)
    return [(group.shape, group.count, group.queues) for group in bench.do(command).groups]


def test_the_largest_group_comes_first_and_each_queue_is_named(bench: Bench):
    die(bench, "too late")
    for n in range(3):
        die(bench, f"refused by 10.0.0.{n}", "a" if n else "b")
    assert told(bench) == [("refused by …", 3, {"a": 2, "b": 1}), ("too late", 1, {"q": 1})]
    assert told(bench, "a") == [("refused by …", 2, {"a": 2})]
    assert told(bench, "nobody") == []
    with pytest.raises(Refused):
        told(bench, "no good")


def test_first_and_last_are_those_of_all_queues(bench: Bench):
    die(bench, "too late 1", "a")
    bench.now += 1000
    die(bench, "too late 22", "b")
    last = die(bench, "too late 333", "b")
    [group] = bench.do(c.DeadGroups()).groups
    assert (group.first_seen, group.last_seen) == (T0 + 1, bench.now)
    assert (group.example.id, group.example.queue, group.example.error) == (last, "b", "too late 333")
    assert (group.example.entered_at, group.example.reason) == (bench.now, "max_attempts_exceeded")
    [group] = bench.do(c.DlqGroups(queue="a")).groups
    assert (group.first_seen, group.last_seen, group.example.error) == (T0 + 1, T0 + 1, "too late 1")


def test_the_example_is_the_newest_of_all_queues(bench: Bench):
    for _ in range(2):
        die(bench, "too late", "a")
    newest = die(bench, "too late", "b")
    [group] = bench.do(c.DeadGroups()).groups
    assert (group.queues, group.example.id) == ({"a": 2, "b": 1}, newest)


def test_what_all_of_a_group_have_in_common(bench: Bench):
    die(bench, "late", tags=["x", "nightly"], group_id="g", data=Raw(b'{"to": 1, "cc": 2}'))
    die(bench, "late", "other", tags=["nightly"], group_id="g", data=Raw(b'{"to": 3, "bcc": 2}'))
    [group] = bench.do(c.DeadGroups()).groups
    common = group.common
    assert (common.sampled, common.tags, common.group_id, common.keys) == (2, ["nightly"], "g", ["to"])
    die(bench, "late", data=Raw(b"[]"), group_id="h")
    common = bench.do(c.DeadGroups()).groups[0].common
    assert (common.sampled, common.tags, common.group_id, common.keys) == (3, [], None, [])


@pytest.mark.parametrize("data", [b'"to"', b'{"\\ud800": 1}', b'{"to": "%s"}' % (b"x" * 70_000)])
def test_a_payload_without_names_has_none(bench: Bench, data: bytes):
    die(bench, "late", data=Raw(data))
    assert bench.do(c.DeadGroups()).groups[0].common.keys == []


def test_pages_go_on_behind_the_last_group(bench: Bench):
    for n, error in enumerate(("one", "two", "three", "four")):
        for _ in range(1 + n // 2):
            die(bench, error)
    whole = told(bench)
    assert [count for _, count, _ in whole] == [2, 2, 1, 1]
    page = bench.do(c.DeadGroups(limit=3))
    assert (len(page.groups), page.total) == (3, 4)
    assert told(bench, after=page.next) == whole[3:]
    assert bench.do(c.DeadGroups(after=page.next)).next is None
    for wrong in ("", "3", "3,xyz", f"-1,{page.groups[0].fingerprint}"):
        with pytest.raises(Refused, match="after must be"):
            told(bench, after=wrong)


def test_a_page_looks_at_no_more_groups_than_it_shows(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    for n in range(40):
        die(bench, f"no {chr(97 + n % 26) * (1 + n // 26)}")
    looked = []
    behind = Ranking.behind

    def noted(*args: Any) -> list[Rank]:
        looked.extend(found := behind(*args))
        return found

    monkeypatch.setattr(Ranking, "behind", noted)
    monkeypatch.delattr(DeadGroups, "sizes")
    page = bench.do(c.DeadGroups(limit=3))
    assert (len(page.groups), page.total) == (3, 40)
    assert len(told(bench, limit=3, after=page.next)) == 3
    assert len(looked) == 8


def test_a_page_ends_after_a_bounded_number_of_looks(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "_LOOKS", 10)
    for error in ("one", "two", "three", "four"):
        die(bench, error)
    sizes, after = [], None
    while True:
        page = bench.do(c.DeadGroups(after=after))
        sizes.append(len(page.groups))
        if (after := page.next) is None:
            break
    assert sizes == [2, 2]


def test_large_records_are_fewer_to_a_page(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "_LOOKS", 10)
    for error in ("one", "two", "three"):
        die(bench, error, data=Raw(b'"%s"' % (b"x" * 40_000)))
    assert len(bench.do(c.DeadGroups()).groups) == 1


def test_of_many_queues_those_with_most_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "_QUEUES", 2)
    for queue in ("a", "b", "b", "c", "c", "c"):
        die(bench, "late", queue)
    assert told(bench) == [("late", 6, {"c": 3, "b": 2})]


def test_of_a_large_group_the_newest_are_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "_SAMPLE", 2)
    die(bench, "late")
    for _ in range(2):
        die(bench, "late", tags=["new"])
    [group] = bench.do(c.DlqGroups(queue="q")).groups
    assert (group.count, group.common.sampled, group.common.tags) == (3, 2, ["new"])


def test_a_group_of_which_all_wait_again_is_reported_no_more(bench: Bench):
    """Its count is that of the last commit."""
    ids = [die(bench, "late") for _ in range(2)]
    bench.do(c.RetryDlq(queue="q", job_id=ids[0]))
    assert told(bench) == [("late", 2, {"q": 2})]
    bench.do(c.RetryDlq(queue="q", job_id=ids[1]))
    assert told(bench) == []
    bench.commit()
    assert told(bench) == []


def test_one_whose_first_is_gone_in_this_moment_began_with_its_last(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Retention deletes in a thread."""
    die(bench, "late")
    monkeypatch.setattr(bench.disk, "first_seen", lambda *_: None)
    [group] = bench.do(c.DeadGroups()).groups
    assert group.first_seen == group.last_seen


def test_the_text_of_a_client_is_looked_at_in_its_own_step(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """4,000 texts made to be slow took the batch 6 s."""
    ids = [bench.push(max_attempts=1) for _ in range(3)]
    bench.do(c.PullBatch(queue="q", count=2))
    bench.do(c.Fail(id=ids[0], error="no 1"))
    bench.do(c.Fail(id=ids[1], error="no 2", unrecoverable=True))
    bench.do(c.Push(queue="q", data=Raw(b"1"), job_id="x", depends_on=[ids[2]]))
    bench.do(c.Cancel(id=ids[2]))
    asked: list[str] = []
    monkeypatch.setattr(rows, "fingerprint", lambda text: asked.append(text) or fingerprint(text))
    batch = make_batch(bench.engine.take(), T0, durable=False, last_event_id=0)
    assert asked == [f"Dependency {ids[2]} failed"]
    keys = [fingerprint(text).key for text in ("no 3", "no 4", "Dependency of any failed")]
    assert sorted(row.fingerprint for row in batch.finished if row.fingerprint) == sorted(keys)
    assert bench.engine.groups == {}


def test_a_job_that_was_cancelled_is_no_error(bench: Bench):
    """Whatever was said of it, and whatever its worker says in its last moments."""
    token_of = {}
    for reason in ("wrong customer", "wrong price", "too late"):
        job_id = bench.push(max_attempts=1)
        token_of[job_id] = bench.pull().token
        bench.commit()
        bench.do(c.Cancel(id=job_id, reason=reason, grace=1000))
    reported = next(iter(token_of))
    bench.fail(reported, "ConnectionError: 10.0.0.7")
    bench.sleep(1000)
    die(bench, "Cancelled")
    assert sorted(told(bench)) == [("Cancelled", 1, {"q": 1}), ("Cancelled", 3, {"q": 3})]
    [cancelled] = [group for group in bench.do(c.DeadGroups()).groups if group.fingerprint == "cancelled"]
    assert (cancelled.count, cancelled.example.reason) == (3, "cancelled")
    page = bench.do(c.DeadGroups(limit=1))
    assert [group.count for group in bench.do(c.DeadGroups(after=page.next)).groups] == [1]
    page = bench.do(c.Dlq(queue="q", fingerprint="cancelled"))
    assert {entry.job.id for entry in page.entries} == set(token_of)


def test_errors_that_take_long_to_tell_are_fewer_to_a_page(bench: Bench):
    """One of 400 characters may take 2 ms."""
    for n in range(20):
        die(bench, f"{chr(97 + n)}{chr(107 - n)} " + "a-" * 200)
    page = bench.do(c.DeadGroups())
    assert 5 < len(page.groups) < 12
    assert page.total == 20
    assert page.next is not None


def test_the_kept_groups_are_those_that_are_counted():
    """Compared with a count of all, whatever is added and taken; and of nothing nothing is left."""
    rng = random.Random(1)
    dead, counts = DeadGroups({}), Counter[tuple[str, str]]()
    keys = ["aaa", "aab", "abc", "cancelled", "f00", "f01"]
    for _ in range(400):
        place = rng.choice("xyz"), rng.choice(keys)
        n = rng.randint(-counts[place], 3)
        counts[place] += n
        dead.add({place: n})
        for queue in ("x", None):
            sizes = Counter[str]()
            for (name, key), many in counts.items():
                sizes[key] += many if queue in (None, name) else 0
            ranks = sorted((-many, key) for key, many in sizes.items() if many)
            some = rng.randint(1, 4)
            assert dead.behind(queue, FIRST, some) == ranks[:some]
            assert all(dead.behind(queue, rank, some) == ranks[i:][:some] for i, rank in enumerate(ranks, 1))
            assert (dead.count(queue), dead.sizes(queue)) == (len(ranks), +sizes)
        assert dead.where(place[1], None) == {
            name: many for (name, key), many in counts.items() if many and key == place[1]
        }
    dead.add({place: -many for place, many in counts.items() if many})
    assert dead.behind(None, FIRST, 1) == []
    assert (dead._where, dead._queues, dead._all._shelves) == ({}, {}, {})
