"""The command that tries a disk: kill a server under load, restart it, look whether all that it answered is there."""

import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click

from bunqueue_trio.errors import leaves
from bunqueue_trio.pages.words import count
from bunqueue_trio.testing.crash.rounds import LOAD_S, Failed, Round, rounds

# Breaches that are printed.
SHOWN = 20


@click.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="A directory on the disk to try. [default: a temporary one]",
)
@click.option(
    "--kills", "--rounds", "kills", type=click.IntRange(min=1), default=20, show_default=True, help="How many."
)
@click.option("--seed", type=int, help="Chooses what is done and when. [default: another each time]")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True, max=3600),
    default=LOAD_S,
    show_default=True,
    help="The longest load before a kill.",
)
@click.option("--durable", is_flag=True, help="Every push is durable.")
@click.option("--power-loss", is_flag=True, help="On a simulated disk that loses what was not synced.")
@click.option("--lying-disk", is_flag=True, help="The same, and the disk lies about syncs: this must be found out.")
def crashtest(
    data: Path | None,
    kills: int,
    seed: int | None,
    seconds: float,
    *,
    durable: bool,
    power_loss: bool,
    lying_disk: bool,
) -> None:
    """Kill a server under load, restart it, and look whether everything that it had answered is there.

    Needs no server: it starts its own, in a new directory in DIR. Exit code 0: nothing was lost that was
    promised; 1: something was, or a round failed. The files are kept then, and after Ctrl-C.
    """
    # Ended as by Ctrl-C, which leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    seed = secrets.randbelow(2**32) if seed is None else seed
    directory = Path(tempfile.mkdtemp(prefix="crashtest-", dir=data))
    power_loss = power_loss or lying_disk
    what = count(kills, "power cut") if power_loss else count(kills, "kill")
    where = "on a simulated disk" if power_loss else f"of a server with its file in {directory}"
    click.echo(f"crashtest: {what} {where}, seed {seed}")
    done: list[Round] = []
    try:
        for each in rounds(
            directory, kills, seed, power_loss=power_loss, lying=lying_disk, durable=durable, seconds=seconds
        ):
            done.append(each)
            click.echo(str(each))
    except Failed as error:
        raise click.ClickException(f"{error}; the files are in {directory}") from None
    except BaseException as error:
        if not any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves(error)):
            raise
        click.echo(f"interrupted; the files are in {directory}", err=True)
        raise click.Abort from None  # noqa: ASYNC104 - it is Ctrl-C, and there is no loop here
    _conclude(done, directory, seed)


def _conclude(done: list[Round], directory: Path, seed: int) -> None:
    answered, durable = sum(each.verdict.answered for each in done), sum(each.verdict.durable for each in done)
    breaches = done[-1].verdict.breaches
    if breaches:
        for breach in breaches[:SHOWN]:
            click.echo(f"BREACH: {breach}")
        if len(breaches) > SHOWN:
            click.echo(f"… and {len(breaches) - SHOWN} more")
        click.echo(f"the promise was broken in round {len(done)} with seed {seed}; everything is in {directory}")
        sys.exit(1)
    shutil.rmtree(directory)
    lost, longest = sum(each.verdict.lost for each in done), max(each.verdict.lost_ms for each in done)
    click.echo(
        f"{count(len(done), 'round')}, {count(answered, 'answered change')}, {count(durable, 'durable push', 'durable pushes')}: "
        "nothing was lost that was promised"
    )
    if lost:
        click.echo(
            f"the power took {count(lost, 'answered change that was not durable', 'answered changes that were not durable')}, of at most the last {longest:.0f} ms each "
            "time; what was left was always a prefix of what had been committed"
        )
