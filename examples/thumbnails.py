"""Thumbnails of every picture in a directory tree: one job for each picture, made by as many workers as you like.

    python examples/thumbnails.py PICTURES THUMBNAILS             # pushes, works, and reports
    python examples/thumbnails.py PICTURES THUMBNAILS --no-work   # pushes and reports; workers run elsewhere:
    cd examples && bunqueue-trio worker thumbnails:worker

Worth copying: the job's id is made of the picture, so that a second start adds nothing twice; the thumbnail gets
its name only when it is complete, so that a worker may be killed at any moment; and one that is there is not made
again, so that a job may come twice.
"""

import argparse
import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import trio
from PIL import Image, ImageOps

from bunqueue_trio import Client, Job, Worker
from bunqueue_trio.client import JobFailed

QUEUE = "thumbnails"
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PART = ".part"  # the end of the name of a thumbnail that is not complete
PUSH_MAX = 1000  # jobs in one message

worker = Worker(QUEUE, concurrency=os.cpu_count() or 1)


# --- the worker -----------------------------------------------------------------------------------------


@worker.handler
def make(job: Job) -> dict[str, bool]:
    """Make one thumbnail. A sync handler runs in a thread: Pillow may take its time."""
    source, target = Path(job.data["source"]), Path(job.data["target"])
    if is_current(source, target):
        return {"made": False}  # by this job, when its worker died before it could say so
    target.parent.mkdir(parents=True, exist_ok=True)
    # Of this delivery alone: one that lost its lease may still be writing.
    part = target.with_name(f"{target.name}.{job.token}{PART}")
    try:
        with Image.open(source) as picture:
            picture.draft("RGB", (2 * job.data["size"], 2 * job.data["size"]))  # a JPEG need not be read in full size
            upright = ImageOps.exif_transpose(picture)
            upright.thumbnail((job.data["size"], job.data["size"]))
            upright.convert("RGBA" if upright.has_transparency_data else "RGB").save(part, "WEBP")
        mtime_ns = source.stat().st_mtime_ns
        os.utime(part, ns=(mtime_ns, mtime_ns))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return {"made": True}


def is_current(source: Path, target: Path) -> bool:
    """Return whether the thumbnail is of the picture as it is now: it carries the picture's time."""
    try:
        return target.stat().st_mtime_ns == source.stat().st_mtime_ns
    except FileNotFoundError:
        return False


# --- the producer ---------------------------------------------------------------------------------------


@dataclass
class Report:
    """How it went."""

    made: int = 0
    there: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Give the failures, and a line that sums up."""
        lines = [f"FAILED {source}: {error}" for source, error in sorted(self.failed.items())]
        return "\n".join([*lines, f"{self.made} made, {self.there} already there, {len(self.failed)} failed"])


def job_for(source: Path, target: Path, size: int) -> dict[str, object]:
    """Return the job of one picture; its id is the same whenever the picture is."""
    facts = f"{source}\0{target}\0{size}\0{source.stat().st_mtime_ns}"
    return {
        "job_id": f"thumbnail-{hashlib.sha256(facts.encode()).hexdigest()[:32]}",
        "data": {"source": str(source), "target": str(target), "size": size},
        "max_attempts": 3,  # a picture may be half copied when it is first looked at
        "backoff": 0.5,
    }


def find(pictures: Path, thumbnails: Path, size: int) -> tuple[dict[str, dict[str, object]], int]:
    """Return the jobs of the pictures that need one, by name, and how many need none."""
    jobs, there = {}, 0
    for source in sorted(path for path in pictures.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
        name = source.relative_to(pictures)
        target = thumbnails / name.with_name(f"{name.name}.webp")
        if is_current(source, target):
            there += 1
        else:
            jobs[str(name)] = job_for(source, target, size)
    return jobs, there


def tidy(thumbnails: Path) -> None:
    """Remove what killed workers have left; to be called when all jobs have ended, so that nobody writes here."""
    for left in thumbnails.rglob(f"*{PART}"):
        left.unlink()


async def produce(client: Client, pictures: Path, thumbnails: Path, size: int) -> Report:
    """Push a job for every picture that has no thumbnail, wait for all of them, and say how it went."""
    jobs, there = await trio.to_thread.run_sync(find, pictures, thumbnails, size)
    report = Report(there=there)
    specs, ids = list(jobs.values()), []
    for first in range(0, len(specs), PUSH_MAX):
        ids += await client.push_many(QUEUE, specs[first : first + PUSH_MAX])
    for number, (name, job_id) in enumerate(zip(jobs, ids, strict=True), 1):
        try:
            await client.wait(job_id)
            report.made += 1
        except JobFailed as failed:
            report.failed[name] = str(failed)
        print(f"\r{number} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    await trio.to_thread.run_sync(tidy, thumbnails)
    return report


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Thumbnails of every picture in a directory tree.")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("thumbnails", type=Path)
    parser.add_argument("--size", type=int, default=256, help="longest side in pixels")
    parser.add_argument("--no-work", action="store_true", help="only push and report: workers run elsewhere")
    parser.add_argument("--url", default=worker.url, help="the server, default %(default)s")
    return parser.parse_args()


async def main(said: argparse.Namespace) -> int:
    """Make the thumbnails; return 1 when some pictures have none."""
    worker.url = said.url
    async with Client(worker.url) as client, trio.open_nursery() as nursery:
        if not said.no_work:
            nursery.start_soon(worker.run)
        report = await produce(client, said.pictures.resolve(), said.thumbnails.resolve(), said.size)
        worker.stop()
    print(report)
    return 1 if report.failed else 0


if __name__ == "__main__":
    raise SystemExit(trio.run(main, arguments()))
