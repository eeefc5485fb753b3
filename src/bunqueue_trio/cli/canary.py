"""A retry of a few dead letters first: the others follow only if not too many of them die again."""

import time
from typing import Any

import click

from bunqueue_trio.cli.remote import Ask, Refusal, connection
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import span
from bunqueue_trio.protocol import commands as c

# How often those that were retried are looked at.
POLL_S = 1.0
_ENDED = frozenset({"completed", "failed", "gone"})


class Percent(click.ParamType[float]):
    """A part of a hundred: 20% or 20."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            part = float(str(value).strip().removesuffix("%"))
        except ValueError:
            self.fail(f"{value!r} is no part of a hundred, such as 20%", param, ctx)
        if not 0 <= part <= 100:
            self.fail(f"{value!r} is not between 0% and 100%", param, ctx)
        return part


def retry_first(
    url: str, token: str | None, wanted: dict[str, Any], count: int, stop_at: float, patience_s: float
) -> None:
    """Retry up to ``count`` of the dead letters that are ``wanted``, and wait until they have ended.

    Raises:
        ClickException: more than ``stop_at`` percent of them died again, or some have not ended in ``patience_s``.
    """
    with connection(url, token) as ask:
        # What was cancelled on purpose stays where it is, as in a retry of all.
        jobs = [job for job in ask(c.FindJobs, **wanted, state="failed", limit=1000).jobs if job.reason != "cancelled"][
            :count
        ]
        open_: dict[str, str] = {}
        for job in jobs:
            try:
                ask(c.RetryDlq, queue=job.queue, jobId=job.id)
                open_[job.id] = ""
            except Refusal as refused:
                # Its key is held, or it waits already.
                if refused.status not in {400, 404, 409}:
                    raise
        total, died, until = len(open_), 0, time.monotonic() + patience_s
        click.echo(f"{total:,} retried first; the others follow if at most {stop_at:g} % of them die again", err=True)
        while open_:
            ended = {job_id: state for job_id in open_ if (state := _state(ask, job_id)) in _ENDED}
            died += sum(state == "failed" for state in ended.values())
            for job_id in ended:
                del open_[job_id]
            if died * 100 > stop_at * total:
                raise click.ClickException(printable(f"{died:,} of {total:,} died again: the others stay dead"))
            if open_ and time.monotonic() >= until:
                raise click.ClickException(
                    f"{len(open_):,} of {total:,} have not ended in {span(patience_s * 1000)}: the others stay dead"
                )
            if open_:
                time.sleep(POLL_S)
        click.echo(f"{died:,} of {total:,} died again", err=True)


def _state(ask: Ask, job_id: str) -> str:
    try:
        return ask(c.GetState, id=job_id).state
    except Refusal as refused:
        if refused.status != 404:
            raise
        return "gone"
