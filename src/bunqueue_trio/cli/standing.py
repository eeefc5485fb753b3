"""What a schedule waits for, for whoever asks that of it as of a job."""

import click

from bunqueue_trio.cli.remote import Refusal, answer, at, json_of, now_ms
from bunqueue_trio.logs.printable import printable
from bunqueue_trio.pages.words import Given, line, span
from bunqueue_trio.protocol import commands as c
from bunqueue_trio.protocol.scheduled import ScheduleView


def tell_schedule(url: str, token: str | None, name: str, *, as_json: bool) -> bool:
    """Say what the schedule of this name waits for; return whether there is one."""
    try:
        each = answer(url, token, c.GetSchedule, name=name).schedule
    except Refusal:
        return False
    if as_json:
        click.echo(json_of(each))
        return True
    click.echo(printable(f"{each.queue}: the schedule {name} is {each.state}. {_why(each, now_ms(url, token))}"))
    if each.next_run is not None:
        click.echo(f"until {at(each.next_run)}")
    click.echo(printable(f"what became of its past slots: {line('schedules', 'show', Given(name))}"))
    return True


def _why(each: ScheduleView, now: int) -> str:
    last = (
        "" if each.last_job is None else f", the last of which is {each.last_job}: {line('why', Given(each.last_job))}"
    )
    if each.state == "paused":
        said = f"No slot brings a job until it goes on: {line('schedules', 'resume', Given(each.name))}."
    elif each.waiting_slot is not None:
        said = f"The job of a slot comes when those before have ended{last}."
    elif each.next_run is None:
        said = "No slot is to come."
    else:
        said = f"Its next slot brings a job in {span(each.next_run - now)}."
    if each.state != "paused" and each.overlap == "skip" and last:
        said += f" A slot is left out while jobs of it have not ended{last}."
    return said
