"""The door of the dashboard: who may come in, which screen is asked for, and with what headers it goes out.

Whatever carries the request calls :meth:`Dashboard.respond`; there is no framework in here. A page shows the present
moment, committed or not, and is made while others are served.
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache, partial
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import structlog

from bunqueue_trio import __version__, errors
from bunqueue_trio.api.call import Call, ReadBody, Response
from bunqueue_trio.api.downloads import JSON_LINES
from bunqueue_trio.api.gateway import STREAM, Gateway
from bunqueue_trio.api.logins import LOGIN_MS, cookie_of
from bunqueue_trio.api.page_news import Listener, Listeners, PageNews, Pulse
from bunqueue_trio.config import PICTURE_MS
from bunqueue_trio.errors import Refused, StoreDamaged, StoreError
from bunqueue_trio.pages.findings import Finding, Picture, look
from bunqueue_trio.pages.gathered import gathered
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.protocol.routes import Match, Router
from bunqueue_trio.runtime.server import Server
from bunqueue_trio.runtime.shared import Shared
from bunqueue_trio.ui.ask import Ask, Leads, Saves, Screen, Viewer, Wrong
from bunqueue_trio.ui.beside import Beside, beside
from bunqueue_trio.ui.pulse import BUSY_S, OF_THE_MACHINE, PULSE_MS, pulse
from bunqueue_trio.ui.render import render
from bunqueue_trio.ui.table import FILES, ROUTES, VIEWS, navigation
from bunqueue_trio.ui.views import acts, errands

_log = structlog.get_logger()

FORM_BYTES_MAX = 64 * 1024
FIELDS_MAX = 50
# Sentences that wait to be shown on the page after an action; the oldest goes.
SAID_MAX = 500
HTML = "text/html; charset=utf-8"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_SAFE = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
_STATIC = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HOST = re.compile(r"[A-Za-z0-9.\-_]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
_WITHIN = re.compile(r"/ui(?:[/?][\x21-\x7e]*)?")
"""Where somebody who has signed in may be led: a page of ours."""


class Dashboard:
    """Answers what is asked for below ``/ui``."""

    def __init__(self, server: Server, gateway: Gateway) -> None:
        self._server = server
        self._gateway = gateway
        self._router = Router(ROUTES)
        self._found: Shared[tuple[Picture, list[Finding]]] = Shared(2 * PICTURE_MS)
        """What is wrong, for all who look within two seconds."""
        self._beside: Shared[Beside] = Shared(2 * PICTURE_MS)
        self._pulse: Shared[Pulse] = Shared(PULSE_MS)
        self._listeners = Listeners()
        self._said: OrderedDict[str, str] = OrderedDict()
        """What the page after an action has to say, by a number in its address."""

    async def respond(self, call: Call, target: str, headers: Mapping[str, str], read_body: ReadBody) -> Response:
        """Return the response to a request for ``target``, path and query; only cancellation and bugs get past it."""
        try:
            self._gateway.admit(call)
            return await self._respond(call, target, headers, read_body)
        except Refused as refused:
            return await self._sorry(refused.status, str(refused))
        except StoreError as error:
            _log.error("read failed", error=str(error))
            if isinstance(error, StoreDamaged):
                return await self._sorry(503, "The file is damaged where this page reads it. Storage says more.")
            return await self._sorry(503, f"The {self._server.settings.store_kind} cannot be read now.")

    async def _respond(self, call: Call, target: str, headers: Mapping[str, str], read_body: ReadBody) -> Response:
        target = target.removesuffix("?")
        path, _, query = target.partition("?")
        if path != "/ui":
            path = path.rstrip("/")
        method = "GET" if call.method == "HEAD" else call.method
        match = self._router.match(path, method)
        route = None if match is None else match.methods.get(method)
        if match is None or route is None:
            raise (errors.NOT_FOUND if match is None else errors.METHOD_NOT_ALLOWED).refuse()
        if route.target == "static":
            return _static(match.values["file"], headers)
        form: dict[str, str] = {}
        if method == "POST":
            self._refuse_foreign(headers)
            form = _pairs((await read_body(FORM_BYTES_MAX)).decode("utf-8", "replace"))
        cookie = cookie_of(headers.get("cookie", ""), self._gateway.cookie)
        if route.target == "login":
            return await self._sign_in(method, headers, _pairs(query), form, call.client)
        viewer = self._viewer(cookie)
        if route.target == "news":
            if call.method == "HEAD":
                raise errors.METHOD_NOT_ALLOWED.refuse()
            return self._news(viewer, cookie, _pairs(query))
        if viewer is None:
            return await self._stranger(headers, target, method)
        fresh = None if viewer.cookie == cookie else self._set_cookie(headers, viewer.cookie, None)
        if method == "POST" and not self._gateway.logins.is_csrf(viewer.cookie, form.get("csrf", "")):
            return await self._sorry(
                403, "This form is of another login, or too old: go back, load the page again, and repeat it."
            )
        ask = Ask(
            self._server, viewer, target, match.values, _pairs(query), form, _base(headers, self._server),
            self._server.clock.now(), self._server.journal.commits, partial(self._found.get, partial(look, self._server)),
            partial(self._beside.get, partial(beside, self._server)),
        )  # fmt: skip
        return await self._answer(ask, route.target, match, headers, fresh)

    async def _answer(
        self, ask: Ask, target: Any, match: Match, headers: Mapping[str, str], fresh: str | None
    ) -> Response:
        if target == "logout":
            self._gateway.logins.sign_out(ask.viewer.cookie)
            return _lead("/ui/login", self._set_cookie(headers, "", 0))
        made: Any
        try:
            if target == "stop":
                made = errands.stop(ask)
            elif target == "errand":
                made = await errands.show(ask)
            elif target == "act" and ask.form:
                made = await acts.do(ask)
                if not isinstance(made, Screen):
                    return _lead(self._remember(*made))
            elif target == "act":
                made = await acts.ask_first(ask)
            elif target in FILES:
                return _saved(await FILES[target](ask))
            else:
                made = await VIEWS[target](ask)
        except Wrong as wrong:
            title = "There is no such thing" if wrong.status == HTTPStatus.NOT_FOUND else "That does not work"
            made = Screen("message.html", title, "", {"text": str(wrong)}, wrong.status)
        if isinstance(made, Leads):
            return _lead(made.where)
        return await self._page(ask, made, headers, fresh)

    async def _page(self, ask: Ask, screen: Screen, headers: Mapping[str, str], fresh: str | None) -> Response:
        is_part = headers.get("x-part") == "main"
        # As it was when the page was begun, or before: what is committed meanwhile is news.
        marked = (("X-Mark", str(ask.commits)),) if is_part else ()
        context: dict[str, Any] = {
            "ask": ask, "title": screen.title, "nav": screen.nav, "navigation": navigation(self._server), "now": ask.now,
            "viewer": ask.viewer, "cannot": ask.cannot, "is_sure": self._server.core.is_sure, "live_s": screen.live_s, "version": __version__,
            "layout": "part.html" if is_part else "page.html", "said": self._said.get(ask.query.get("said", "")),
            "css": _mark("app.css"), "js": _mark("app.js"), "data_path": self._server.settings.where,
            "news": f"/ui/news?{urlencode({'of': screen.nav, 'queue': ask.queue})}", "commits": ask.commits,
        }  # fmt: skip
        _, found = await ask.found()
        context["urgent"] = sum(each.severity != "notice" for each in gathered(found))
        body = await render(screen.template, context | dict(screen.context))
        more = () if fresh is None else (("Set-Cookie", fresh),)
        tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
        if is_part and headers.get("if-none-match") == tag:
            return Response(304, (*_SAFE, *marked, ("ETag", tag)), b"")
        return _html(body, screen.status, *more, *marked, ("ETag", tag))

    def _news(self, viewer: Viewer | None, cookie: str, query: Mapping[str, str]) -> Response:
        """Return the stream that says when an open page should look again."""
        server = self._server
        if viewer is None:
            return _plain(401, b"signed out")
        if self._listeners.is_full(viewer.csrf):
            return _plain(429, b"too many open pages listen: this one looks again by itself", ("Retry-After", "60"))

        def stays() -> bool:
            return self._viewer(cookie) is not None

        async def look_over() -> Pulse:
            try:
                found = await self._pulse.get(self._look_over)
            except StoreError:
                # The page says so when it looks.
                return Pulse(0, BUSY_S)
            return found._replace(every_s=BUSY_S) if query.get("of") in OF_THE_MACHINE else found

        is_late = query.get("mark") != str(server.journal.commits)
        who = Listener(viewer.csrf, query.get("queue") or None, is_late, server.stop, stays, look_over)
        kind = ("Content-Type", "text/event-stream; charset=utf-8")
        news = PageNews(server.news, self._listeners, who)
        return Response(200, (kind, *STREAM, *_SAFE), news, news)

    async def _look_over(self) -> Pulse:
        return pulse(self._server, *await self._found.get(partial(look, self._server)))

    def _viewer(self, cookie: str) -> Viewer | None:
        """Return who looks; None when they may not."""
        logins = self._gateway.logins
        if not self._server.settings.auth_tokens:
            # Nobody signs in here; the cookie is only what the forms of a page are tied to.
            cookie = cookie if 20 <= len(cookie) <= 100 else secrets.token_urlsafe(32)
            return Viewer("anybody", Role.ADMIN, cookie=cookie, csrf=logins.csrf(cookie), can_leave=False)
        login = logins.find(cookie, self._server.clock.now())
        if login is None:
            return None
        return Viewer(login.grant.name or "a token", login.grant.role, cookie, logins.csrf(cookie), can_leave=True)

    async def _stranger(self, headers: Mapping[str, str], target: str, method: str) -> Response:
        """Answer who has not signed in."""
        if headers.get("x-part") == "main":
            return _plain(401, b"signed out")
        if (
            method == "GET"
            and headers.get("sec-fetch-site") == "cross-site"
            and headers.get("sec-fetch-mode") == "navigate"
        ):
            # A link from elsewhere, as in a chat: the browser keeps the cookie back, and sends it when the page asks for itself.
            return _html(await render("again.html", {"css": _mark("app.css")}))
        return _lead(f"/ui/login?next={quote(target if method == 'GET' else '/ui', safe='')}")

    async def _sign_in(
        self, method: str, headers: Mapping[str, str], query: Mapping[str, str], form: Mapping[str, str], client: str
    ) -> Response:
        where = (form or query).get("next", "/ui")
        where = where if _WITHIN.fullmatch(where) and not where.startswith("/ui/login") else "/ui"
        if not self._server.settings.auth_tokens:
            return _lead(where)
        wrong = ""
        if method == "POST":
            token = form.get("token", "").strip()
            grant = self._gateway.access.grant_of(token) if token else None
            if grant is not None:
                value = self._gateway.logins.sign_in(grant, self._server.clock.now())
                return _lead(where, self._set_cookie(headers, value, LOGIN_MS // 1000))
            _log.warning("a browser has sent a wrong token", client=client[:100])
            wrong = "This token is not one of the server's."
        context = {"next": where, "wrong": wrong, "css": _mark("app.css"), "version": __version__}
        return _html(await render("login.html", context), 401 if wrong else 200)

    def _set_cookie(self, headers: Mapping[str, str], value: str, age_s: int | None) -> str:
        """Return the header that sets the cookie, for ``age_s`` or as long as the browser runs."""
        age = "" if age_s is None else f"; Max-Age={age_s}"
        is_secure = self._server.settings.tls_cert_file or headers.get("x-forwarded-proto", "").lower() == "https"
        return (
            f"{self._gateway.cookie}={value}; Path=/; HttpOnly; SameSite=Strict{age}{'; Secure' if is_secure else ''}"
        )

    def _refuse_foreign(self, headers: Mapping[str, str]) -> None:
        """Raise ``Refused`` when a form of another site is sent.

        Where a browser says it itself, that counts: behind a proxy the host may be another than the browser knows.
        """
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            is_ours = site in {"same-origin", "none"}
        else:
            is_ours = origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()
        if not is_ours:
            raise errors.FOREIGN_ORIGIN.refuse()

    def _remember(self, where: str, done: Any) -> str:
        """Return the address of the page to go to, which will say what was done."""
        number = secrets.token_urlsafe(9)
        if not done.says:
            return where
        self._said[number] = done.says
        while len(self._said) > SAID_MAX:
            self._said.popitem(last=False)
        return f"{where}{'&' if '?' in where else '?'}said={number}"

    async def _sorry(self, status: int, text: str) -> Response:
        return _html(await render("sorry.html", {"text": text, "css": _mark("app.css"), "status": status}), status)


def _pairs(query: str) -> dict[str, str]:
    """Return the fields of a query or a form; the last of a name counts.

    Raises:
        Refused: they are too many.
    """
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=FIELDS_MAX))
    except ValueError:
        raise Refused(400, "Too many fields") from None


def _base(headers: Mapping[str, str], server: Server) -> str:
    """Return the address of the server as the browser has it, for lines that people copy."""
    host = headers.get("host", "")
    scheme = (
        "https" if server.settings.tls_cert_file or headers.get("x-forwarded-proto", "").lower() == "https" else "http"
    )
    return f"{scheme}://{host if _HOST.fullmatch(host) else 'localhost:6790'}"


def _lead(where: str, cookie: str | None = None) -> Response:
    more = () if cookie is None else (("Set-Cookie", cookie),)
    return Response(303, (*_SAFE, ("Location", where), ("Cache-Control", "no-store"), *more), b"")


def _saved(made: Saves) -> Response:
    how = f'attachment; filename="{made.name}"'
    return Response(
        200, (("Content-Type", JSON_LINES), ("Content-Disposition", how), ("Cache-Control", "no-store"), *_SAFE),
        made.feed, made.feed,
    )  # fmt: skip


def _plain(status: int, text: bytes, *more: tuple[str, str]) -> Response:
    return Response(status, (("Content-Type", "text/plain; charset=utf-8"), *_SAFE, *more), text)


def _html(body: bytes, status: int = 200, *more: tuple[str, str]) -> Response:
    return Response(status, (("Content-Type", HTML), ("Cache-Control", "no-store"), *_SAFE, *more), body)


@cache
def _file(name: str) -> bytes:
    return files("bunqueue_trio.ui").joinpath("static", name).read_bytes()


@cache
def _mark(name: str) -> str:
    """Return the address of a file, which is another when the file is: browsers keep it for ever."""
    return f"/ui/static/{name}?{hashlib.sha256(_file(name)).hexdigest()[:12]}"


def _static(name: str, headers: Mapping[str, str]) -> Response:
    kind = _STATIC.get(name)
    if kind is None:
        raise errors.NOT_FOUND.refuse()
    return Response(
        200, (("Content-Type", kind), ("Cache-Control", "public, max-age=31536000, immutable"), *_SAFE), _file(name)
    )
