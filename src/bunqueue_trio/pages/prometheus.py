"""The Prometheus page: what the server counts, as text. It keeps no numbers of its own.

Each scrape takes a picture and gives it to a registry of its own through ``prometheus-client``: there is
nothing global, and two servers in one process do not mix. Of the queues only the fullest get series of their own.
"""

import re
from collections.abc import Iterator, Mapping

import trio
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bunqueue_trio import __version__
from bunqueue_trio.config import HOUR_MS
from bunqueue_trio.logs.lines import lines_dropped
from bunqueue_trio.pages.stuck import stuck_after
from bunqueue_trio.runtime.cluster import max_lag_s
from bunqueue_trio.runtime.memory import Figures
from bunqueue_trio.runtime.meters import HistogramFigures
from bunqueue_trio.runtime.statistics import Page, QueueStatistics, Reporter, Statistics

# Queues whose last hour is summed up before others are served: 1 ms.
JUDGED_A_TURN = 20
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# With series of their own.
DOORS_SHOWN = 20
_WHOLE = re.compile(rb"(?m)^([^#\n].*)\.0$")


async def prometheus(server: Reporter) -> Page:
    """Return the page."""
    registry = CollectorRegistry()
    queues = await server.queue_statistics()
    stuck = await _stuck_after(server, queues)
    registry.register(_Scrape(server.statistics(), server.memory.read(), queues, stuck))
    # Whole numbers without ".0", as the documented page has them.
    return CONTENT_TYPE, _WHOLE.sub(rb"\1", generate_latest(registry)), 200


async def _stuck_after(server: Reporter, queues: QueueStatistics) -> dict[str, int]:
    """Return after how many ms a job hangs, by its queue, where that is known; lets others run in between."""
    past, now, found = server.past(), server.clock.now(), dict[str, int]()
    for i, (_, name) in enumerate(queues.longest):
        if i % JUDGED_A_TURN == 0:
            await trio.lowlevel.checkpoint()
        after = stuck_after(past.of(name, now - HOUR_MS))
        if after is not None:
            found[name] = after
    return found


class _Scrape(Collector):
    """Turns the numbers of a server into metric families, once."""

    def __init__(
        self, statistics: Statistics, memory: Figures, queues: QueueStatistics, stuck_after: Mapping[str, int]
    ) -> None:
        self._told = statistics
        self._memory = memory
        self._seen = queues
        self._stuck_after = stuck_after

    def collect(self) -> Iterator[Metric]:
        yield from self._jobs()
        yield from self._queues()
        yield from self._schedules()
        yield from self._histograms()
        yield from self._journal()
        yield from self._audit()
        yield from self._process()
        yield from self._doors()
        yield from self._cluster()

    def _jobs(self) -> Iterator[Metric]:
        totals = self._told.totals
        for name, text, value in (
            ("pushed", "Total jobs pushed", totals.pushed),
            ("pulled", "Total jobs pulled", totals.pulled),
            ("completed", "Total jobs completed", totals.completed),
            ("failed", "Total jobs that failed for good", totals.failed),
            (
                "died",
                "Those of them that nobody discarded, that waited for nothing that was cancelled, and whose errors are not muted",
                totals.died,
            ),
            ("retried", "Total failed attempts that were retried", totals.retried),
            ("stalled", "Total leases that ran out, or ended with a WebSocket that dropped", totals.stalled),
            ("lost_to_stalls", "Total jobs dead because they stalled too often", totals.lost_to_stalls),
            ("expired", "Total jobs removed because their TTL ran out", totals.expired),
            ("cancelled", "Total jobs cancelled", totals.cancelled),
            ("auto_retried", "Total dead letters that their queue has retried by itself", totals.auto_retried),
        ):
            yield CounterMetricFamily(f"bunqueue_jobs_{name}", text, value)
        jobs = GaugeMetricFamily(
            "bunqueue_jobs", "Jobs by state, finished ones as far as they are kept", labels=["state"]
        )
        for state, n in self._told.jobs.items():
            if state != "removed":
                jobs.add_metric([state], n)
        yield jobs
        since, now = self._seen.oldest_ready_at, self._told.now
        yield GaugeMetricFamily(
            "bunqueue_oldest_ready_job_age_ms",
            "How long the job that is ready longest has been waiting for a worker; 0 when none is ready",
            0 if since is None else max(0, now - since),
        )

    def _queues(self) -> Iterator[Metric]:
        for field, what in (("waiting", "Ready"), ("active", "Active"), ("delayed", "Delayed"), ("dlq", "Dead")):
            family = GaugeMetricFamily(
                f"bunqueue_queue_jobs_{field}", f"{what} jobs of a queue, for the fullest queues", labels=["queue"]
            )
            for figures in self._seen.shown:
                family.add_metric([figures.name], getattr(figures, field))
            yield family
        longest = GaugeMetricFamily(
            "bunqueue_queue_longest_active_ms",
            "For how long a job of a queue has been active, for the queues where that is longest",
            labels=["queue"],
        )
        stuck = GaugeMetricFamily(
            "bunqueue_queue_stuck_after_ms",
            "From how long on such a job is a finding, by those that completed within the hour; none where too few did",
            labels=["queue"],
        )
        for since, name in self._seen.longest:
            longest.add_metric([name], max(0, self._told.now - since))
            if name in self._stuck_after:
                stuck.add_metric([name], self._stuck_after[name])
        yield longest
        yield stuck
        yield GaugeMetricFamily("bunqueue_queues", "Queues with unfinished or dead jobs", self._seen.queues)
        yield GaugeMetricFamily(
            "bunqueue_queues_omitted",
            "Queues beyond METRICS_QUEUES_MAX, which have no series of their own",
            self._seen.queues - len(self._seen.shown),
        )
        yield GaugeMetricFamily("bunqueue_queues_paused", "Queues that are paused", self._told.queues_paused)
        yield GaugeMetricFamily(
            "bunqueue_queues_limited", "Queues with a limit of active jobs", self._told.queues_limited
        )
        yield GaugeMetricFamily(
            "bunqueue_queues_rate_limited", "Queues with a limit of jobs in a time", self._told.queues_rate_limited
        )

    def _schedules(self) -> Iterator[Metric]:
        told = self._told.schedules
        yield GaugeMetricFamily("bunqueue_schedules", "Schedules, paused ones and those that are over, too", told.known)
        yield CounterMetricFamily(
            "bunqueue_schedules_late",
            "Times that a schedule was dealt with more than a minute after its slot",
            told.late,
        )
        yield CounterMetricFamily(
            "bunqueue_schedules_left_out",
            "Times that a schedule left out slots: they were missed or paused, or the job before had not ended",
            told.left_out,
        )

        yield GaugeMetricFamily(
            "bunqueue_schedules_failing",
            "Schedules whose newest run died, or that have left out slots for 10 minutes, since a job has not ended; none that is paused",
            told.dying + told.blocking,
        )

    def _histograms(self) -> Iterator[Metric]:
        histograms = self._told.histograms
        for name, text, histogram in (
            ("push_duration_ms", "Push operation latency in ms, with the commit", histograms["push"]),
            (
                "pull_duration_ms",
                "Pull operation latency in ms, without the wait of a waiting pull",
                histograms["pull"],
            ),
            ("ack_duration_ms", "Ack operation latency in ms, with the commit", histograms["ack"]),
            ("job_wait_ms", "From when a job was first ready to its delivery, in ms", histograms["wait"]),
            ("job_run_ms", "From the last delivery of a job to its end, in ms", histograms["run"]),
            ("commit_duration_ms", "Time a transaction took in ms", histograms["commit"]),
            ("commit_rows", "Rows that a transaction wrote", histograms["commit_rows"]),
            (
                "event_loop_lag_ms",
                "How late the event loop woke a task, in ms, one sample a second",
                histograms["loop_lag"],
            ),
        ):
            yield _histogram(f"bunqueue_{name}", text, histogram)

    def _journal(self) -> Iterator[Metric]:
        told, storage = self._told, self._told.storage
        yield CounterMetricFamily("bunqueue_commits", "Transactions committed", storage.commits)
        yield CounterMetricFamily(
            "bunqueue_durable_commits", "Transactions committed with fsync", storage.durable_commits
        )
        yield GaugeMetricFamily("bunqueue_pending_changes", "Changed jobs that wait to be written", storage.pending)
        yield GaugeMetricFamily(
            "bunqueue_storage_failing", "1 while disk or database refuses commits, else 0", int(storage.is_failing)
        )
        yield GaugeMetricFamily(
            "bunqueue_storage_damaged",
            "1 once the file was found to be damaged, else 0",
            int(storage.damage is not None),
        )
        yield GaugeMetricFamily(
            "bunqueue_log_bytes", "Bytes of the write-ahead log beside the database file", storage.log_bytes
        )
        space = storage.space
        for name, text, size in (
            ("file_bytes", "Bytes of the database file, without its log", space.file),
            ("free_bytes", "Bytes in the database file that nothing uses", space.free),
            ("disk_free_bytes", "Bytes that the disk of the database file has left", space.disk_free),
        ):
            yield GaugeMetricFamily(f"bunqueue_storage_{name}", text, size)
        yield CounterMetricFamily("bunqueue_events", "Events published since the start", told.events_published)
        yield CounterMetricFamily("bunqueue_events_dropped", "Events missed by slow readers", told.events_dropped)

    def _audit(self) -> Iterator[Metric]:
        audit, now = self._told.audit, self._told.now
        yield CounterMetricFamily(
            "bunqueue_audit_checked", "Jobs and entries that the self-audit looked at", audit.checked
        )
        yield CounterMetricFamily(
            "bunqueue_audit_passes", "Passes of the self-audit over everything", audit.passes_done
        )
        faults = CounterMetricFamily(
            "bunqueue_audit_faults", "Faults met by the self-audit, again in each pass", labels=["kind"]
        )
        for kind, n in audit.faults.items():
            faults.add_metric([kind], n)
        yield faults
        since = self._told.started_at if audit.last_done_at is None else audit.last_done_at
        yield GaugeMetricFamily(
            "bunqueue_audit_age_seconds",
            "Time since the last whole pass of the self-audit, or since the start, in s; 0 when it is off",
            (now - since) / 1000 if audit.per_second else 0,
        )
        yield GaugeMetricFamily(
            "bunqueue_audit_pass_seconds", "Time that the last whole pass took in s", audit.last_ms / 1000
        )

    def _process(self) -> Iterator[Metric]:
        told = self._told
        yield GaugeMetricFamily("bunqueue_ready", "1 while new work is welcome, else 0", int(told.is_ready))
        yield GaugeMetricFamily(
            "bunqueue_uptime_seconds", "Time since the start in s", (told.now - told.started_at) / 1000
        )
        yield GaugeMetricFamily(
            "bunqueue_clock_offset_ms",
            "How far the system clock is ahead of the server's, in ms: it was set, or the machine was suspended",
            told.clock_offset_ms,
        )
        yield GaugeMetricFamily("bunqueue_pollers", "Waiting pulls", told.pulls_waiting)
        yield GaugeMetricFamily(
            "bunqueue_waits",
            "Requests waiting for the end of a job; with the waiting pulls at most POLLERS_MAX",
            told.waits,
        )
        connections = GaugeMetricFamily(
            "bunqueue_connections", "Open connections by kind; http: all that are open at this process", labels=["kind"]
        )
        for kind in ("tcp", "ws", "sse", "http"):
            connections.add_metric([kind], getattr(told.connections, kind))
        yield connections
        restarts = CounterMetricFamily("bunqueue_task_restarts", "Restarts of supervised tasks", labels=["task"])
        running = GaugeMetricFamily("bunqueue_task_running", "1 while a supervised task runs, else 0", labels=["task"])
        for task in told.tasks:
            restarts.add_metric([task.name], task.restarts)
            running.add_metric([task.name], int(task.state == "running"))
        yield restarts
        yield running
        memory = GaugeMetricFamily(
            "bunqueue_memory_bytes", "Memory: Python objects and C heap, used and held, and resident", labels=["kind"]
        )
        for kind, value in self._memory._asdict().items():
            memory.add_metric([kind], value)
        yield memory
        lines = CounterMetricFamily(
            "bunqueue_log_lines_dropped",
            "Log lines not written: unwritable ones, and repeated ones beyond what a second may have",
            labels=["reason"],
        )
        for reason, n in lines_dropped().items():
            lines.add_metric([reason], n)
        yield lines
        info = GaugeMetricFamily("bunqueue_info", "Always 1; the version is in the label", labels=["version"])
        info.add_metric([__version__], 1)
        yield info

    def _doors(self) -> Iterator[Metric]:
        doors = self._told.doors
        for name, text, value in (
            ("doors", "Doors: processes that accept connections for this one", doors.connected),
            ("door_connections", "Open connections that doors pass on as they are", doors.connections),
            ("door_requests", "Requests that doors have asked and that are not answered", doors.requests),
        ):
            yield GaugeMetricFamily(f"bunqueue_{name}", text, value)
        queues = GaugeMetricFamily(
            "bunqueue_door_queue",
            "The same of each door, by its number or the address of its machine; the fullest have series of their own",
            labels=["door"],
        )
        fullest = sorted(doors.by_door().items(), key=lambda each: -each[1])
        for door, n in fullest[:DOORS_SHOWN]:
            queues.add_metric([door], n)
        if fullest[DOORS_SHOWN:]:
            queues.add_metric(["others"], sum(n for _, n in fullest[DOORS_SHOWN:]))
        yield queues
        yield CounterMetricFamily(
            "bunqueue_doors_hung", "Doors that did not answer, were ended and replaced", doors.hung
        )
        yield CounterMetricFamily("bunqueue_doors_died", "Doors that ended otherwise and were replaced", doors.died)

    def _cluster(self) -> Iterator[Metric]:
        told, led = self._told, self._told.leading
        known, since = told.cluster.known, told.cluster.since
        remembers_s = (told.now - told.place.since) / 1000 if led.remembers_s is None else led.remembers_s
        for name, text, value in (
            ("leader_term", "Term in which this server leads a queue in PostgreSQL; 0 with a file", led.term),
            ("lease_left_ms", "How long no other server may lead, for sure; 0 with a file", round(led.lease_left_s * 1000)),
            ("lease_ms", "How long a server that is not heard of keeps others from leading; 0 with a file", round(led.lease_s * 1000)),
            ("remembered_bytes", "Newest batches that are written again if the database comes back without them; 0 with a file", led.remembered),
            ("remembered_batches", "How many these are", led.batches),
            ("remembered_seconds", "For how long back every batch is remembered, in s; 0 with a file", remembers_s if led.term else 0),
            ("standbys", "Servers that wait, and would take over", len(known.waiting) if known else 0),
            ("standby_missing", "1 while no server would take over and one did lately, else 0", int("standby-missing" in since)),
            ("replicas", "Replicas of the database that this user sees", len(known.replicas) if known else 0),
            ("replica_lag_seconds", "How far the replica is behind that is furthest, in s", max_lag_s(known) if known else 0),
            ("replica_lag_bytes", "The same in bytes that are not replayed yet", max((each.behind or 0 for each in known.replicas), default=0) if known else 0),
            ("database_round_trip_ms", "What a small question to the database takes at best, in ms; 0 with a file", known.round_trip_ms if known else 0),
            ("database_oldest_transaction_seconds", "For how long the oldest transaction that this user sees is open, in s", (known.oldest_s or 0) if known else 0),
        ):  # fmt: skip
            yield GaugeMetricFamily(f"bunqueue_{name}", text, value)
        for field, name, text in (
            ("bytes", "bytes", "Bytes of a table of the queue in PostgreSQL, with its indexes"),
            ("live", "rows", "Rows of a table, about"),
            ("dead", "dead_rows", "Rows of a table that nobody needs and nothing has cleared away, about"),
        ):
            family = GaugeMetricFamily(f"bunqueue_table_{name}", text, labels=["table"])
            for table in known.tables if known else ():
                family.add_metric([table.name], getattr(table, field))
            yield family


def _histogram(name: str, text: str, histogram: HistogramFigures) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, n in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += n
        buckets.append((bound, total))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, histogram.sum)
    return family
