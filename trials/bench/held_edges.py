"""The same as ``held_work.py`` with what few send: names by the thousand, long texts and heads, jobs with a long past.

Whoever may push can make any of it, and each is within its documented limits.
"""

import http.client
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trials.bench.held_work import Work

NAMES = 10_000
WIDE = 1000
_HOUR_MS = 3_600_000
_ERROR = "e" * 65_536


def dependencies(work: "Work") -> None:
    """Push jobs that name many others, and end them, retry them and remove them."""
    _push(work, "ended", [{"data": 1, "jobId": f"ended-{n}"} for n in range(NAMES)])
    _push(work, "open", [{"data": 1, "jobId": f"open-{n}", "delay": _HOUR_MS} for n in range(NAMES)])
    _pull_and_ack(work, "ended")
    for kind in ("ended", "open", "one", "own"):
        for count in (NAMES, 1000, 10):
            each = NAMES // count
            jobs: list[dict[str, Any]] = []
            for n in range(count):
                begin = n * each
                names = {
                    "ended": [f"ended-{i}" for i in range(begin, begin + each)],
                    "open": [f"open-{i}" for i in range(begin, begin + each)],
                    "one": ["ended-0"] * each,
                    "own": [f"own-{count}-{i % n}" for i in range(each)] if n else [],
                }[kind]
                jobs.append(
                    {"data": 1, "jobId": f"{kind if kind == 'own' else 'x' + kind}-{count}-{n}", "dependsOn": names}
                )
            for chunked in (False, True):
                work.ask(
                    f"{count} x {each} {kind}", "POST", f"/queues/on-{kind}/jobs/bulk", {"jobs": jobs}, chunked=chunked
                )
                jobs = [job | {"jobId": None} for job in jobs] if kind != "own" else jobs
            jobs[-1] = jobs[-1] | {"jobId": "new", "dependsOn": [*jobs[-1]["dependsOn"][:-1], "unknown"]}
            work.ask(
                f"{count} x {each} {kind}, the last unknown", "POST", f"/queues/on-{kind}/jobs/bulk", {"jobs": jobs}
            )
    _wide(work)
    _dead(work)


def _wide(work: "Work") -> None:
    """Do to jobs with 1,000 dependencies what is done to many at once."""
    open_ones = [f"open-{n}" for n in range(WIDE)]

    def push(queue: str, names: list[str]) -> None:
        for _ in range(30):
            jobs = [{"data": 1, "dependsOn": names} for n in range(10)]
            work.ask("10 x 1,000", "POST", f"/queues/{queue}/jobs/bulk", {"jobs": jobs})

    push("wide", open_ones)
    for path in (
        "/jobs?queue=wide&limit=1000",
        "/queues/wide/jobs/list?state=waiting-children&limit=1000",
        "/ui/queues/wide",
        "/ui/jobs?queue=wide",
    ):
        work.ask(f"wide: look: {path}", "GET", path)
    for what, path, body in (
        ("cancel", "/jobs/act", {"filter": {"queue": "wide"}, "action": "cancel", "limit": NAMES}),
        ("discard", "/jobs/act", {"filter": {"queue": "wide"}, "action": "discard", "limit": NAMES}),
        ("clean", "/queues/wide/clean", {"grace": 0, "state": "waiting-children", "limit": 1000}),
        ("obliterate", "/queues/wide/obliterate", {"force": True}),
    ):
        push("wide", open_ones)
        for _ in range(100):
            found = work.ask(f"wide: {what}", "POST", path, body)
            if not found or not found.get("count"):
                break


def _dead(work: "Work") -> None:
    """Do the same to dead ones: each depends on 999 of its own that have ended, and on one that fails."""
    ended = [f"ended-{n}" for n in range(NAMES)]
    for retry in ("dlq", "act", "rerun"):
        work.ask("push", "POST", "/queues/bad/jobs", {"data": 1, "jobId": f"bad-{retry}", "maxAttempts": 1})
        for n in range(30):
            jobs = [
                {"data": 1, "dependsOn": [f"bad-{retry}", *(ended[(i + n * 999 + k * 97) % NAMES] for i in range(999))]} for k in range(10)
            ]  # fmt: skip
            work.ask("10 x 1,000", "POST", f"/queues/dead-{retry}/jobs/bulk", {"jobs": jobs})
        work.ask("wide: failure", "DELETE", f"/jobs/bad-{retry}")
        _wait(work, "wide: what depends on a failure")
        work.ask("wide: look at dead ones", "GET", f"/queues/dead-{retry}/dlq?limit=1000")
        work.ask("wide: page of dead ones", "GET", f"/ui/errors/dead-{retry}")
        work.ask("push", "POST", "/queues/bad/jobs", {"data": 1, "jobId": f"bad-{retry}", "delay": _HOUR_MS})
        for _ in range(100):
            if retry == "dlq":
                found = work.ask("wide: retry", "POST", f"/queues/dead-{retry}/dlq/retry", {"limit": 1000})
            elif retry == "act":
                body = {"filter": {"queue": f"dead-{retry}"}, "action": "retry", "limit": NAMES}
                found = work.ask("wide: act retry", "POST", "/jobs/act", body)
            else:
                found = work.ask(
                    "wide: rerun", "POST", "/dead/rerun", {"queue": f"dead-{retry}", "count": 1000, "rate": 1000}
                )
                _wait(work, "wide: rerun goes on")
                break
            if not found or not found.get("count"):
                break


def errors(work: "Work") -> None:
    """Let attempts fail with long errors, and look through them."""
    for shape, error in (("long", _ERROR), ("slow", _slow())):
        queue = f"errors-{shape}"
        for n in range(20):
            _push(work, queue, [{"data": 1, "maxAttempts": 99, "backoff": _HOUR_MS} for _ in range(100)])
            found = work.ask("pull", "POST", f"/queues/{queue}/jobs/pull-batch", {"count": 100, "lockTtl": 600_000})
            failures = [
                {"id": job["id"], "token": token, "error": f"{n} {i} {error}"[: len(error)]}
                for i, (job, token) in enumerate(zip(found["jobs"], found["tokens"], strict=True))
            ]
            work.ask(f"errors: {shape}: failures", "POST", "/jobs/fail-batch", {"failures": failures})
        for needle in ("e" * 1000 + "f", "f" + "e" * 1000, "ef" * 500):
            for path in (f"/jobs?error={needle}&limit=1000", f"/jobs?queue={queue}&error={needle}&count=true"):
                work.ask(f"errors: {shape}: {path[:14]}", "GET", path)
            body = {"filter": {"queue": queue, "error": needle}, "action": "cancel", "limit": NAMES}
            work.ask(f"errors: {shape}: act", "POST", "/jobs/act", body)
        for path in (
            f"/jobs?queue={queue}&fingerprint=0123456789ab",
            f"/jobs?queue={queue}&limit=1000",
            f"/queues/{queue}/jobs/list?state=delayed&limit=1000",
        ):
            work.ask(f"errors: {shape}: {path.partition('?')[0]} {path[-22:]}", "GET", path)
        body = {"filter": {"queue": queue, "fingerprint": "0123456789ab"}, "action": "cancel", "limit": NAMES}
        work.ask(f"errors: {shape}: act by fingerprint", "POST", "/jobs/act", body)


def faults(work: "Work") -> None:
    """Let jobs die of very many faults, each with a text that is long to tell from others."""
    for n in range(20):
        _push(work, "faults", [{"data": 1, "maxAttempts": 1} for _ in range(1000)])
        found = work.ask("pull", "POST", "/queues/faults/jobs/pull-batch", {"count": 1000, "lockTtl": 600_000})
        failures = [
            {"id": job["id"], "token": token, "error": _word(1000 * n + i) + _slow()}
            for i, (job, token) in enumerate(zip(found["jobs"], found["tokens"], strict=True))
        ]
        for begin in range(0, 1000, 500):
            work.ask("faults: failures", "POST", "/jobs/fail-batch", {"failures": failures[begin : begin + 500]})
        _wait(work, "faults: failures")
    for path in (
        "/dead/groups?limit=100",
        "/queues/faults/dlq/groups?limit=100",
        "/ui/errors",
        "/ui/errors/faults",
        "/ui",
        "/findings",
        "/prometheus",
    ):
        work.ask(f"faults: {path}", "GET", path)


def _word(n: int) -> str:
    """Return a word of letters alone for a number."""
    return "".join(chr(ord("a") + n // 26**k % 26) for k in range(4)) + " "


def tags(work: "Work") -> None:
    """Push jobs with as many long tags as they may have, and look through them."""
    for n in range(10):
        tags = [f"{'t' * 1000}-{i:04}" for i in range(100)]
        _push(work, "tags", [{"data": n, "tags": tags[k:] + tags[:k]} for k in range(90)])
    for path in (
        f"/jobs?tag={'t' * 1000}-9999", "/jobs?queue=tags&limit=1000", "/queues/tags/jobs/list?limit=1000", "/ui/queues/tags", "/ui/jobs?queue=tags",
        f"/jobs?groupId={'g' * 1024}", f"/jobs?owner={'o' * 1024}", f"/jobs?idPrefix={'p' * 1024}",
    ):  # fmt: skip
        work.ask(f"tags: {path[:40]}", "GET", path)


def payloads(work: "Work") -> None:
    """Look through payloads for texts that are long to find."""
    for size, count in ((9_000_000, 2), (90_000, 200), (2000, 4000)):
        for _ in range(2):
            _push(
                work,
                "payloads",
                [{"data": "a" * size, "delay": _HOUR_MS} for _ in range(min(count, 9_500_000 // size))],
            )
        for needle in ("a" * 1000 + "b", "b" + "a" * 1000, "ab" * 500, "a" * 500 + "b" + "a" * 500):
            work.ask(
                f"payloads of {size}: text {needle[0]}{needle[1]}..{needle[-1]}",
                "GET",
                f"/jobs?queue=payloads&text={needle}&limit=1000",
            )


def heads(work: "Work") -> None:
    """Send heads as long as they may be, to the pages that read them."""
    long = 60_000
    fields: list[tuple[str, list[tuple[str, str]]]] = [
        ("cookies", [("Cookie", "; ".join(f"c{n}=v" for n in range(long // 10)))]),
        ("one cookie", [("Cookie", "a=" + "v" * long)]),
        ("forwarded", [("X-Forwarded-For", ", ".join(["1.2.3.4"] * (long // 9)))]),
        ("many fields", [(f"x-{n}", "v") for n in range(90)]),
        ("authorization", [("Authorization", "Bearer " + "a" * long)]),
        ("origin", [("Origin", "https://" + "a." * (long // 2))]),
        ("last event", [("Last-Event-ID", "9" * long)]),
        ("accept", [("Accept", "text/html," * (long // 10))]),
        ("languages", [("Accept-Language", "de;q=0.5," * (long // 9))]),
    ]
    paths = [
        "/health",
        "/jobs",
        "/ui",
        "/ui/queues",
        "/queues/q/jobs",
        "/events",
        "/ws",
        "/ui/jobs",
        "/prometheus",
        "/docs",
    ]
    for name, some in fields:
        for path in paths:
            _head(work, f"head: {name}", path, some)
    queries = {
        "one field": "queue=" + "a" * long, "many fields": "&".join(f"f{n}=1" for n in range(long // 8)),
        "many queues": "&".join("queue=q" for _ in range(long // 8)), "escapes": "queue=" + "%61" * (long // 3), "pluses": "text=" + "+" * long,
        "equals": "=" * long, "ampersands": "&" * long, "types": "types=" + "pushed," * (long // 7), "since": "since=" + "9" * long,
        "after": "after=" + "waiting|q|1," * (long // 12), "search": "search=" + "a" * 1024, "error": "error=" + "(a" * 512,
    }  # fmt: skip
    for name, query in queries.items():
        for path in [
            *paths,
            "/queues",
            "/workers",
            "/actions",
            "/ui/errors",
            "/ui/events",
            "/ui/schedules",
            "/ui/workers",
            "/ui/actions",
            "/schedules/preview",
        ]:
            _head(work, f"query: {name}: {path}", f"{path}?{query}", [])
    for name, path in {
        "segments": "/a" * (long // 2), "slashes": "/" * long, "escapes": "/" + "%61" * (long // 3), "jobs": "/jobs/" + "a" * long,
        "hidden": "/jobs/ack-batch" * (long // 15), "dots": "/.." * (long // 3),
    }.items():  # fmt: skip
        _head(work, f"path: {name}", path, [])
        _head(work, f"path: {name} below /ui", "/ui" + path, [])


def pasts(work: "Work") -> None:
    """Make a job with a long past, and many events, and look at them."""
    job = work.ask("push", "POST", "/queues/past/jobs", {"data": 1, "maxAttempts": 100, "backoff": 0, "jobId": "past"})
    del job
    for n in range(25):
        found = work.ask("pull", "GET", "/queues/past/jobs?timeout=2000")
        for k in range(20):
            work.ask("progress", "POST", "/jobs/past/progress", {"progress": k, "message": "m" * 10_000})
        work.ask(
            "fail",
            "POST",
            "/jobs/past/fail",
            {"token": found.get("token"), "error": f"{n}" + _ERROR[:65_000], "stack": _ERROR},
        )
        for _ in range(40):
            work.ask("log", "POST", "/jobs/past/logs", {"message": "l" * 10_000})
    for n in range(100):
        work.ask("act on it", "PUT", "/jobs/past/priority", {"priority": n})
    for path in (
        "/jobs/past/timeline",
        "/jobs/past/attempts",
        "/jobs/past/logs?limit=1000",
        "/jobs/past/why",
        "/ui/jobs/past",
        "/jobs/past",
        "/ui/events",
        "/actions?limit=1000",
        "/ui/actions",
    ):
        work.ask(f"past: {path}", "GET", path)
    after = "0"
    for _ in range(30):
        found = work.ask("past: timeline goes on", "GET", f"/jobs/past/timeline?after={after}")
        if not found or not found.get("next"):
            break
        after = found["next"]
    for since in (0, 10_000_000_000_000, 60_000):
        _head(work, f"past: /events?since={since}", f"/events?since={since}", [], read=400)


def _push(work: "Work", queue: str, jobs: list[dict[str, Any]]) -> None:
    work.ask(f"bulk push: {queue}", "POST", f"/queues/{queue}/jobs/bulk", {"jobs": jobs})


def _pull_and_ack(work: "Work", queue: str) -> None:
    while True:
        found = work.ask("pull", "POST", f"/queues/{queue}/jobs/pull-batch", {"count": 1000, "lockTtl": 600_000})
        if not found or not found.get("jobs"):
            return
        work.ask(
            "ack", "POST", "/jobs/ack-batch", {"ids": [job["id"] for job in found["jobs"]], "tokens": found["tokens"]}
        )


def _wait(work: "Work", what: str) -> None:
    for _ in range(20):
        time.sleep(0.05)
        work.note(what)


def _head(work: "Work", what: str, path: str, fields: list[tuple[str, str]], *, read: int = 1) -> None:
    """Send a head alone, and read some of the answer, which may have no end."""
    connection = http.client.HTTPConnection(*work.address, timeout=10)
    try:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        for _ in range(read):
            if not answer.read1(65536):
                break
    except (OSError, http.client.HTTPException) as error:
        what = f"{what} ({type(error).__name__})"
    finally:
        connection.close()
    work.note(what)


def _slow() -> str:
    """Return an error that is long to tell from others."""
    return "a-" * 190
