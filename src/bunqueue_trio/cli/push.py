"""The command that adds a job to a queue of a running server."""

from typing import Any

import click
from msgspec import Raw

from bunqueue_trio.cli.remote import (
    DURATION,
    answer,
    json_argument,
    json_option,
    refuse_without,
    refuse_zero,
    say,
    with_server,
)
from bunqueue_trio.protocol import commands as c


@click.command()
@with_server
@click.argument("queue")
@click.argument("data", metavar="JSON")
@click.option("--name", metavar="NAME", help="What kind of job it is: workers choose the handler by this name.")
@click.option("--priority", type=int, help="Jobs with a higher number come first.  [default: 0]")
@click.option("--delay", type=DURATION, metavar="TIME", help="Wait this long before a worker can take it.")
@click.option(
    "--max-attempts", type=int, metavar="N", help="Try it N times at most; then it is a dead letter.  [default: 3]"
)
@click.option("--job-id", metavar="ID", help="Use this id. While a job with it is unfinished, no other is added.")
@click.option("--unique-key", metavar="KEY", help="While an unfinished job of QUEUE has this key, no other is added.")
@click.option(
    "--backoff",
    type=DURATION,
    metavar="TIME",
    help="Wait this long before the second try, and twice as long before each further one.",
)
@click.option(
    "--backoff-type",
    type=click.Choice(["fixed", "exponential"]),
    help="fixed: the wait does not double.  [default: exponential]",
)
@click.option(
    "--backoff-max",
    type=DURATION,
    metavar="TIME",
    help="Never wait longer than this.  [default: 1h, or --backoff if that is longer]",
)
@click.option(
    "--backoff-jitter", type=float, metavar="SHARE", help="Shorten each wait at random, by up to this share: 0 to 1."
)
@click.option(
    "--ttl", type=DURATION, metavar="TIME", help="Remove it if no worker has taken it by then.  [default: never]"
)
@click.option(
    "--timeout", type=DURATION, metavar="TIME", help="A try that takes longer has failed.  [default: no limit]"
)
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be repeated.")
@click.option("--group-id", metavar="GROUP", help="Kept with the job; lists can be filtered by it.")
@click.option("--lifo", is_flag=True, help="Put it before the jobs that wait with the same priority.")
@click.option("--depends-on", multiple=True, metavar="ID", help="Wait until this job has completed; may be repeated.")
@click.option("--repeat-every", type=DURATION, metavar="TIME", help="Run it again and again, this long apart.")
@click.option("--repeat-limit", type=int, metavar="N", help="Stop after N runs.")
@click.option("--repeat-name", metavar="NAME", help="Its name in `schedules list`.")
@click.option("--remove-on-complete", is_flag=True, help="Keep no record of it when it has completed.")
@click.option("--remove-on-fail", is_flag=True, help="Keep no dead letter of it.")
@click.option("--durable", is_flag=True, help="Answer only when it is safe on the disk (fsync).")
@json_option
def push(
    url: str, token: str | None, queue: str, data: str, *, as_json: bool, repeat_every: int | None, repeat_limit: int | None,
    repeat_name: str | None, backoff: int | None, backoff_type: str | None, backoff_max: int | None, backoff_jitter: float | None, **options: Any,
) -> None:  # fmt: skip
    """Add a job with the payload JSON to QUEUE and print its id.

    JSON is read from standard input if it is `-`, and from a file if it is `@FILE`. A string needs its own quotes: '"hello"'.
    A TIME has a unit: 500ms, 5s, 10m, 2h, 1d.
    """
    body = {"data": Raw(json_argument(data))} | {_camel(k): v for k, v in options.items() if _is_said(v)}
    backoff_how = {"type": backoff_type, "maxDelay": backoff_max, "jitter": backoff_jitter}
    given = {name: value for name, value in backoff_how.items() if value is not None}
    refuse_zero(ttl=options["ttl"], timeout=options["timeout"], backoff_max=backoff_max)
    refuse_without(backoff is not None, "--backoff", "backoff_type", "backoff_max", "backoff_jitter")
    refuse_without(repeat_every is not None, "--repeat-every", "repeat_limit", "repeat_name")
    if backoff is not None:
        body["backoff"] = {"type": "exponential", "delay": backoff} | given if given else backoff
    if repeat_every is not None:
        body["repeat"] = {"every": repeat_every, "limit": repeat_limit} | ({"name": repeat_name} if repeat_name else {})
    reply = answer(url, token, c.Push, queue=queue, **body)
    say(reply.id, reply, as_json=as_json)


def _is_said(value: object) -> bool:
    """Return whether a flag was given; 0 is a value as others are, and for the server to judge."""
    return value is not None and value is not False and value != ()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))
