"""examples/thumbnails.py on a directory of pictures, some of them broken, with a worker that is killed."""

import os
from pathlib import Path

import pytest
import trio
from PIL import Image, ImageChops

from bunqueue_trio import Job
from bunqueue_trio.testing import Bunqueue
from examples import thumbnails
from tests.examples.conftest import Start, kill, wait_until
from tests.wire.server import Server

SIZE = 128
ORIENTATION, TURNED = 0x0112, 6  # EXIF: the top of the picture is on its right side


def draw(pictures: Path) -> dict[str, tuple[int, int]]:
    """Draw a directory of pictures of all kinds; return the size that the thumbnail of each must have."""
    sizes = {}
    mandelbrot = Image.effect_mandelbrot((2400, 1600), (-2.2, -1.0, 0.8, 1.0), 30)
    colours = Image.merge("RGB", [mandelbrot, ImageChops.invert(mandelbrot), mandelbrot.rotate(180)])
    (pictures / "2026" / "summer").mkdir(parents=True)
    for number in range(24):
        name = f"2026/summer/beach {number:02}.jpg"
        colours.rotate(number).save(pictures / name)
        sizes[name] = (128, 85)
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    colours.save(pictures / "turned.JPG", "JPEG", exif=exif)
    colours.convert("CMYK").save(pictures / "printed.jpeg")
    mandelbrot.save(pictures / "grey.png")
    colours.convert("P").save(pictures / "palette.gif")
    seen_through = colours.copy()
    seen_through.putalpha(mandelbrot)
    seen_through.save(pictures / "transparent.png", compress_level=1)
    Image.new("RGB", (40, 20), "red").save(pictures / "tiny ünï.bmp")
    return sizes | {
        "turned.JPG": (85, 128), "printed.jpeg": (128, 85), "grey.png": (128, 85), "palette.gif": (128, 85),
        "transparent.png": (128, 85), "tiny ünï.bmp": (40, 20),
    }  # fmt: skip


def spoil(pictures: Path) -> set[str]:
    """Add files that are no pictures, or only the beginning of one."""
    whole = (pictures / "2026/summer/beach 00.jpg").read_bytes()
    (pictures / "cut short.jpg").write_bytes(whole[: len(whole) // 2])
    (pictures / "empty.png").touch()
    (pictures / "letter.gif").write_text("Dear Sir or Madam")
    (pictures / "notes.txt").write_text("not even called a picture")
    return {"cut short.jpg", "empty.png", "letter.gif"}


@pytest.mark.slow
def test_every_picture_has_its_thumbnail_though_a_worker_is_killed(fresh: Server, tmp_path: Path, start: Start):
    pictures, made, url = tmp_path / "pictures", tmp_path / "thumbnails", f"ws://127.0.0.1:{fresh.port}"
    sizes, broken = draw(pictures), spoil(pictures)
    worker = ["-m", "bunqueue_trio", "worker", "thumbnails:worker", "--url", url, "--concurrency", 2]
    program = ["thumbnails.py", pictures, made, "--size", SIZE, "--url", url]

    killed = start(*worker)
    producer = start(*program, "--no-work")
    wait_until(lambda: len(list(made.rglob("*.webp"))) >= 3)
    kill(killed)
    before = {path: path.stat().st_ino for path in made.rglob("*.webp")}
    assert len(before) < len(sizes), "it was killed too late to show anything"
    second = start(*worker)
    report, errors = producer.communicate(timeout=90)

    assert producer.returncode == 1, errors
    *failures, last = report.splitlines()
    assert last == f"{len(sizes)} made, 0 already there, {len(broken)} failed"
    assert {line.split(":")[0] for line in failures} == {f"FAILED {name}" for name in broken}
    assert "UnidentifiedImageError: cannot identify image file" in failures[1]
    assert "truncated" in failures[0]
    for name, size in sizes.items():
        with Image.open(made / f"{name}.webp") as thumbnail:
            thumbnail.load()
            assert (name, thumbnail.size) == (name, size)
    with Image.open(made / "transparent.png.webp") as transparent:
        assert transparent.mode == "RGBA"
    assert {path.relative_to(made).as_posix() for path in made.rglob("*.*")} == {f"{name}.webp" for name in sizes}
    assert {path: path.stat().st_ino for path in before} == before, "a thumbnail that was there was made once more"

    second.terminate()
    _, logged = second.communicate(timeout=90)
    assert second.returncode == 0, logged
    again = start(*program)
    report, errors = again.communicate(timeout=90)
    assert report.splitlines()[-1] == f"0 made, {len(sizes)} already there, {len(broken)} failed", errors


async def test_thumbnail_is_not_made_again_when_its_worker_died_after_the_work(bunqueue: Bunqueue, tmp_path: Path):
    """The second worker gets the job, sees that it is done, and says so; of a changed picture it makes a new one."""
    source, target = tmp_path / "red.png", tmp_path / "out" / "red.png.webp"
    Image.new("RGB", (400, 200), "red").save(source)
    mortal, worker = bunqueue.worker(thumbnails.QUEUE), bunqueue.worker(thumbnails.QUEUE)

    @mortal.handler
    async def make_and_hang(job: Job) -> None:
        thumbnails.make(job)
        await trio.sleep_forever()

    worker.handler(thumbnails.make)
    job_id = (await bunqueue.client.push_many(thumbnails.QUEUE, [thumbnails.job_for(source, target, SIZE)]))[0]
    with trio.move_on_after(10):
        await mortal.run()
    made = target.stat()
    bunqueue.start(worker)
    assert await bunqueue.client.wait(job_id) == {"made": False}
    assert target.stat() == made

    Image.new("RGB", (400, 200), "blue").save(source)
    os.utime(source, ns=(made.st_mtime_ns + 1, made.st_mtime_ns + 1))
    job = thumbnails.job_for(source, target, SIZE)
    assert job["job_id"] != job_id
    assert await bunqueue.client.wait((await bunqueue.client.push_many(thumbnails.QUEUE, [job]))[0]) == {"made": True}
