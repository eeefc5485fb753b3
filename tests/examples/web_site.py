"""A web site for the crawler: what is asked for, when, and how many at a time."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

HOST = "127.0.0.1"
Answer = tuple[int, dict[str, str], str]
HTML = {"Content-Type": "text/html; charset=utf-8"}


def page(title: str, *links: str) -> Answer:
    anchors = "".join(f'<p><a href="{link}">to {link}</a>' for link in links)
    return 200, HTML, f"<html><head><title>{title}</title></head><body>{anchors}</body></html>"


class Site:
    """A server whose pages are functions of how often they were asked for before. Use as a context manager."""

    def __init__(self, name: str) -> None:
        self.pages: dict[str, Callable[[int], Answer]] = {}
        self.takes: dict[str, float] = {}  # seconds before a page is answered
        self.asked: list[tuple[float, str]] = []
        self.at_once_max = 0
        self._at_once = 0
        self._lock = threading.Lock()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with site._lock:
                    before = site.counts()[self.path]
                    site.asked.append((time.monotonic(), self.path))
                    site._at_once += 1
                    site.at_once_max = max(site.at_once_max, site._at_once)
                time.sleep(site.takes.get(self.path, 0))
                answer = site.pages.get(self.path)
                status, headers, body = (404, HTML, "no such page") if answer is None else answer(before)
                with site._lock:
                    site._at_once -= 1
                self.send_response(status)
                for header, value in headers.items():
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                try:
                    self.wfile.write(body.encode())
                except OSError:
                    pass  # the crawler has seen enough, or was killed

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self.root = f"http://{name}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, path: str, answer: Answer, *before: Answer) -> None:
        """Let a page answer `before` at first, one after the other, and then `answer` for good."""
        self.pages[path] = lambda n: before[n] if n < len(before) else answer

    def counts(self) -> Counter[str]:
        return Counter(path for _, path in self.asked)

    def times(self, path: str) -> list[float]:
        return [at for at, asked in self.asked if asked == path]
