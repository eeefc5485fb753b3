"""A process that commits batch after batch into a store, for ever, and says so; it is there to be killed.

Batch ``n`` brings ``SIZE`` jobs, ends those of batch ``n - 1``, changes one that stays, notes facts of it and tells of it.
"""

import sys

from bunqueue_trio.engine.facts import Fact
from bunqueue_trio.engine.job import Job
from bunqueue_trio.storage.sqlite import SqliteStore
from tests.storage.ledger import Ledger, ended, event, make_job

SIZE = 20
STAYING = 10**9


def jobs_of(n: int) -> list[Job]:
    return [make_job(n * SIZE + i, f"{n}-{i}", data=b'"%s"' % (b"x" * (n * 7919 % 3000))) for i in range(SIZE)]


def facts_of(n: int) -> list[Fact]:
    return [("batch", "last", b"%d" % n), ("batch", "odd", b"" if n % 2 else None)]


def main(path: str) -> None:
    store = SqliteStore(path)
    loaded = {job.id: job for job in store.load()}
    n = max((int(job_id.split("-")[0]) for job_id in loaded if job_id != "staying"), default=0)
    ledger = Ledger(store)
    if not loaded:
        ledger.write([make_job(STAYING, "staying", run_at=0)])
    while True:
        n += 1
        new, old = jobs_of(n), [ended(job) for job in jobs_of(n - 1)] if n > 1 else []
        staying = make_job(STAYING, "staying", run_at=n)
        ledger.write(new, [*old, staying], events=[event(job) for job in new], facts=facts_of(n), durable=n % 5 == 0)
        sys.stdout.write(f"{n}\n")
        sys.stdout.flush()
        if n % 50 == 0:
            store.checkpoint(restart=n % 100 == 0)


if __name__ == "__main__":
    main(sys.argv[1])
