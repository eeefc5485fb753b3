"""The command that adds a job to a queue of a running server."""

from typing import Any

import click
from msgspec import Raw

from bunqueue_trio.cli.remote import DURATION, answer, json_argument, json_option, refuse_without, say, with_server
from bunqueue_trio.protocol import commands as c


@click.command()
@with_server
@click.argument("queue")
@click.argument("data", metavar="JSON")
@click.option("--name", metavar="NAME", help="What kind of job it is in its queue: workers choose the handler by it.")
@click.option("--priority", type=int, help="Higher is sooner.")
@click.option("--delay", type=DURATION, metavar="TIME", help="Time before it can be taken.")
@click.option("--max-attempts", type=int, metavar="N", help="Tries in all, then it is a dead letter; 3 unless you say.")
@click.option("--job-id", metavar="ID", help="Makes the push idempotent while the job is unfinished.")
@click.option("--unique-key", metavar="KEY", help="While an unfinished job of the queue has it, this adds none.")
@click.option(
    "--backoff", type=DURATION, metavar="TIME", help="Wait before the second try; doubles with each further one."
)
@click.option(
    "--backoff-type", type=click.Choice(["fixed", "exponential"]), help="Whether it doubles.  [default: exponential]"
)
@click.option("--backoff-max", type=DURATION, metavar="TIME", help="The longest wait; else an hour, or the backoff.")
@click.option("--backoff-jitter", type=float, metavar="SHARE", help="Waits are up to so much shorter: 0 to 1.")
@click.option("--ttl", type=DURATION, metavar="TIME", help="Drop it if it was not taken by then; 0s: never.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="A try that takes longer has failed; 0s: none does.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="May be repeated.")
@click.option("--group-id", metavar="GROUP", help="Kept with the job, for its readers.")
@click.option("--lifo", is_flag=True, help="Before older ones of its priority.")
@click.option("--depends-on", multiple=True, metavar="ID", help="Only after this job is completed; may be repeated.")
@click.option("--repeat-every", type=DURATION, metavar="TIME", help="Add it again this long after each run.")
@click.option("--repeat-limit", type=int, metavar="N", help="At most N runs.")
@click.option("--repeat-name", metavar="NAME", help="What `schedules list` calls it.")
@click.option("--remove-on-complete", is_flag=True, help="Keep nothing of it when it is completed.")
@click.option("--remove-on-fail", is_flag=True, help="Keep nothing of it when it is dead.")
@click.option("--durable", is_flag=True, help="Have it on disk (fsync) before the answer.")
@json_option
def push(
    url: str, token: str | None, queue: str, data: str, *, as_json: bool, repeat_every: int | None, repeat_limit: int | None,
    repeat_name: str | None, backoff: int | None, backoff_type: str | None, backoff_max: int | None, backoff_jitter: float | None, **options: Any,
) -> None:  # fmt: skip
    """Add a job with the payload JSON to QUEUE and print its id.

    JSON can be `-`, which is standard input, or `@FILE`. A string needs quotes of its own: '"hello"'. A TIME
    has a unit: 500ms, 5s, 10m, 2h, 1d.
    """
    body = {"data": Raw(json_argument(data))} | {_camel(k): v for k, v in options.items() if _is_said(v)}
    backoff_how = {"type": backoff_type, "maxDelay": backoff_max, "jitter": backoff_jitter}
    given = {name: value for name, value in backoff_how.items() if value is not None}
    for name in ("ttl", "timeout"):
        if options[name] == 0:
            # The API takes it as none, and nobody says it for that.
            raise click.UsageError(f"--{name} must be at least 1 ms; without it there is no limit")
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
