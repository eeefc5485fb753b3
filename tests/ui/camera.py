"""Takes the pictures of the documents: pages of a simulated night, given to a browser with the headers that they have."""

import argparse
import http.server
import io
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from pathlib import Path

from PIL import Image

from bunqueue_trio.api.access import ANYBODY
from bunqueue_trio.config import Settings
from bunqueue_trio.testing import virtual
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.chromium import CHROMIUM, Browser, Chromium
from tests.ui.night import night
from tests.ui.site import Page, Site

PICTURES = Path(__file__).parents[2] / "docs" / "dashboard"
BYTES_MAX = 150 * 1024  # of a picture in the repository
COLOURS = 255  # a page has few, and a picture with a palette is a third of one without
SHOTS = (
    ("now", "/ui", 1280, 1240, False), ("error", "GROUP", 1280, 900, False), ("queue", "/ui/queues/invoices", 1280, 900, True),
    ("phone", "/ui", 390, 844, True),
)  # fmt: skip
"""Name, page, width, height, whether it is dark."""


def pages() -> dict[str, Page]:
    """The pages that are to be seen, and all files that they need, by their addresses."""
    found: dict[str, Page] = {}

    async def make() -> None:
        async with Bunqueue(Settings(auth_tokens=("secret",))) as bunqueue:
            await night(bunqueue)
            site = Site(bunqueue)
            site.cookie = f"{site.gateway.cookie}={site.gateway.logins.sign_in(ANYBODY, bunqueue.server.clock.now())}"
            errors = await site.get("/ui/errors")
            group = re.search(r'href="(/ui/errors/orders\?[^"]*)"', errors.html)
            assert group
            found["/ui"] = await site.get("/ui")
            found["GROUP"] = await site.get(unescape(group[1]))
            found["/ui/queues/invoices"] = await site.get("/ui/queues/invoices")
            for address in re.findall(r'"(/ui/static/[^"]*)"', found["/ui"].html):
                found[address.partition("?")[0]] = await site.get(address)

    virtual.run(make, seed=1)
    return found


@contextmanager
def served(found: Mapping[str, Page]) -> Iterator[str]:
    """Serve pages; the value is the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = found.get(
                self.path if self.path in found else self.path.partition("?")[0].replace("/GROUP", "GROUP")
            )
            self.send_response(200 if page else 404)
            body = page.body if page else b""
            for name, value in (page.headers if page else {}).items():
                if name not in ("set-cookie", "cache-control"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def small(png: bytes) -> bytes:
    """The same picture in few bytes."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(
        COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
    ).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> int:
    """Take all of them."""
    argparse.ArgumentParser(description="Make the pictures in docs/dashboard anew; needs chromium.").parse_args()
    if CHROMIUM is None:
        print("chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    PICTURES.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as profile,
        served(pages()) as url,
        Chromium(Path(profile)) as chromium,
        Browser(chromium) as browser,
    ):
        for name, target, width, height, dark in SHOTS:
            browser.look(width, dark=dark, height=height)
            browser.go(url + ("/GROUP" if target == "GROUP" else target))
            browser.run("document.getElementById('live').hidden || document.fonts.ready.then(() => 1)")
            png = small(browser.picture())
            assert len(png) <= BYTES_MAX, (name, len(png))
            (PICTURES / f"{name}.png").write_bytes(png)
            print(f"{PICTURES.name}/{name}.png: {len(png):,} bytes")
    return 0
