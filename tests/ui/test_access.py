"""Who may look: a token once, then a cookie with an end; and tickets for streams."""

import re
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from bunqueue_trio.api import logins as logins_module
from bunqueue_trio.api.access import ANYBODY, Grant
from bunqueue_trio.api.call import Response
from bunqueue_trio.api.logins import LOGIN_MS, TICKET_MS, Logins, cookie_of
from bunqueue_trio.config import Settings
from bunqueue_trio.errors import Refused
from bunqueue_trio.protocol.commands.spec import Role
from bunqueue_trio.testing.server import Bunqueue
from tests.ui.night import push
from tests.ui.site import Page, Site

TOKEN = "secret-token-1"
NOW = 1_000_000


@pytest.fixture
async def locked(autojump_clock: MockClock) -> AsyncIterator[Bunqueue]:
    async with Bunqueue(Settings(auth_tokens=(TOKEN, "secret-token-2"))) as running:
        yield running


@pytest.fixture
async def stranger(locked: Bunqueue) -> Site:
    return Site(locked)


async def sign_in(site: Site, where: str = "/ui") -> Page:
    return await site.post("/ui/login", {"token": TOKEN, "next": where})


async def test_a_stranger_is_led_to_the_sign_in_and_back(stranger: Site) -> None:
    page = await stranger.get("/ui/queues?q=a")
    assert page.headers["location"] == "/ui/login?next=%2Fui%2Fqueues%3Fq%3Da"
    page = await stranger.follow(page)
    assert page.said("Sign in")
    where = re.search(r'name="next" value="([^"]*)"', page.html)
    assert where
    assert where[1] == "/ui/queues?q=a"
    page = await sign_in(stranger, where[1])
    assert page.headers["location"] == "/ui/queues?q=a"
    assert (await stranger.follow(page)).said("Sign out")


async def test_the_cookie_is_for_this_server_and_no_script(stranger: Site) -> None:
    page = await sign_in(stranger)
    cookie = page.headers["set-cookie"]
    assert re.fullmatch(r"bunqueue-6790=[\w-]{43}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200", cookie)
    assert TOKEN not in cookie
    page = await stranger.post("/ui/login", {"token": TOKEN}, {"x-forwarded-proto": "https"})
    assert page.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    "path", ["/ui", "/ui/jobs/x", "/ui/jobs/x/data", "/ui/act/pause?queue=q", "/ui/errors/q", "/ui/server"]
)
async def test_nobody_sees_anything_without_a_token(stranger: Site, path: str) -> None:
    await push(stranger.bunqueue, "payroll")
    for cookie in ("", "bunqueue-6790=", "bunqueue-6790=" + "x" * 43, "bunqueue-6790=\xff", "x=y"):
        stranger.cookie = cookie
        page = await stranger.get(path)
        assert page.status == 303
        assert page.body == b""
    assert (await stranger.get(path, {"x-part": "main"})).status == 401
    page = await stranger.post(path.partition("?")[0], {"csrf": "x", "queue": "payroll"})
    assert page.status in {303, 405}
    assert not stranger.bunqueue.server.engine.gates


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "1", TOKEN[:-1], f"{TOKEN},secret-token-2", "ü", "\ud800"])
async def test_no_other_token_lets_in(stranger: Site, token: str) -> None:
    with capture_logs() as logs:
        page = await stranger.ask("POST", "/ui/login", b"token=" + token.encode("utf-8", "surrogatepass"), {})
    assert page.status == 401
    assert all(entry["client"] for entry in logs if "wrong token" in entry["event"]), "who it was, for a firewall"
    assert logs
    assert page.said("This token is not one of the server's.")
    assert stranger.cookie == ""


async def test_a_form_of_another_site_signs_nobody_in(stranger: Site) -> None:
    page = await stranger.post("/ui/login", {"token": TOKEN}, {"sec-fetch-site": "cross-site"})
    assert (page.status, stranger.cookie) == (403, "")


@pytest.mark.parametrize(
    "where", ["https://evil.example", "//evil.example", "/ui\\evil", "/queues", "/ui/login", "/uix", "/ui/\nX: y"]
)
async def test_nobody_is_led_elsewhere(stranger: Site, where: str) -> None:
    page = await sign_in(stranger, where)
    assert page.headers["location"] == "/ui"


async def test_a_link_from_a_chat_is_asked_for_again_by_the_page_itself(stranger: Site) -> None:
    """The browser keeps a strict cookie back then."""
    page = await stranger.get("/ui/jobs/7", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert page.status == 200
    assert '<meta http-equiv="refresh" content="0">' in page.html
    page = await stranger.get("/ui/jobs/7", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"})
    assert page.status == 303


async def test_a_login_ends(stranger: Site) -> None:
    await sign_in(stranger)
    assert (await stranger.get("/ui")).status == 200
    stranger.bunqueue.server.clock._offset_ms += LOGIN_MS - 1000
    assert (await stranger.get("/ui")).status == 200
    stranger.bunqueue.server.clock._offset_ms += 1000
    assert (await stranger.get("/ui")).status == 303


async def test_who_signs_out_is_out(stranger: Site) -> None:
    await sign_in(stranger)
    page = await stranger.get("/ui")
    kept = stranger.cookie
    page = await stranger.post("/ui/logout", {"csrf": page.csrf})
    assert page.headers["location"] == "/ui/login"
    assert "Max-Age=0" in page.headers["set-cookie"]
    stranger.cookie = kept
    assert (await stranger.get("/ui")).status == 303


async def test_where_no_token_is_asked_for_nobody_signs_in(site: Site) -> None:
    page = await site.get("/ui")
    assert page.status == 200
    assert not page.said("Sign out")
    assert (await site.get("/ui/login")).headers["location"] == "/ui"
    assert "Max-Age" not in page.headers["set-cookie"]
    assert "set-cookie" not in (await site.get("/ui")).headers


async def test_logins_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One token's logins end none of another's, before there are too many of all."""
    monkeypatch.setattr(logins_module, "LOGINS_MAX", 30)
    logins = Logins()
    other = logins.sign_in(Grant(Role.READ, "ann"), NOW)
    values = [logins.sign_in(ANYBODY, NOW) for _ in range(4)]
    assert [logins.find(value, NOW) is not None for value in values] == [False, True, True, True]
    assert logins.find(other, NOW) is not None
    many = [logins.sign_in(Grant(Role.READ, f"n{n}"), NOW) for n in range(27)]
    assert logins.find(other, NOW) is None
    assert logins.find(many[-1], NOW) is not None


def test_a_ticket_is_good_once_and_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins()
    ticket = logins.new_ticket(ANYBODY, NOW)
    assert not logins.redeem(ticket + "x", NOW)
    assert logins.redeem(ticket, NOW + TICKET_MS - 1) == ANYBODY
    assert not logins.redeem(ticket, NOW)
    assert not logins.redeem(logins.new_ticket(ANYBODY, NOW), NOW + TICKET_MS)
    monkeypatch.setattr(logins_module, "TICKETS_MAX", 20)
    tickets = [logins.new_ticket(ANYBODY, NOW) for _ in range(3)]
    assert [logins.redeem(each, NOW) for each in tickets] == [None, ANYBODY, ANYBODY]


def test_the_number_of_a_form_is_of_one_cookie_and_one_server() -> None:
    logins, other = Logins(), Logins()
    assert logins.is_csrf("a" * 43, logins.csrf("a" * 43))
    assert not logins.is_csrf("b" * 43, logins.csrf("a" * 43))
    assert not other.is_csrf("a" * 43, logins.csrf("a" * 43))


@pytest.mark.parametrize(
    ("header", "value"),
    [("", ""), ("a=1; n=2", "2"), ("n=2;a=1", "2"), ('n="2"', "2"), ("nn=2", ""), ("n", ""), (" n=2 ", "2")],
)
def test_a_cookie_is_read(header: str, value: str) -> None:
    assert cookie_of(header, "n") == value


async def api(site: Site, method: str, target: str, **headers: str) -> Response:
    """Ask the API as a transport does."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await site.gateway.respond(site.gateway.resolve(method, target, named), b"")


async def test_a_ticket_is_for_who_has_a_token_or_is_signed_in(stranger: Site) -> None:
    assert (await api(stranger, "POST", "/ticket")).status == 401
    assert (await api(stranger, "POST", "/ticket", authorization=f"Bearer {TOKEN}")).status == 200
    await sign_in(stranger)
    csrf = (await stranger.get("/ui")).csrf
    assert (await api(stranger, "POST", "/ticket", cookie=stranger.cookie)).status == 401
    assert (await api(stranger, "POST", "/ticket", cookie=stranger.cookie, x_csrf_token="0" * 64)).status == 401
    answer = await api(stranger, "POST", "/ticket", cookie=stranger.cookie, x_csrf_token=csrf)
    assert answer.status == 200
    # The cookie opens nothing else of the API.
    assert (await api(stranger, "GET", "/stats", cookie=stranger.cookie, x_csrf_token=csrf)).status == 401


async def test_a_ticket_opens_a_stream_and_nothing_else(stranger: Site) -> None:
    logins, now = stranger.gateway.logins, stranger.bunqueue.server.clock.now
    assert (await api(stranger, "GET", f"/stats?ticket={logins.new_ticket(ANYBODY, now())}")).status == 401
    assert (await api(stranger, "GET", "/events?ticket=")).status == 401
    ticket = logins.new_ticket(ANYBODY, now())
    assert (await api(stranger, "GET", f"/events?ticket={ticket}")).status == 200
    assert (await api(stranger, "GET", f"/events?ticket={ticket}")).status == 401
    assert (
        await api(stranger, "GET", f"/events/queues/q?x=1&ticket={logins.new_ticket(ANYBODY, now())}")
    ).status == 200
    reader = Grant(Role.READ, "ann")
    call = stranger.gateway.resolve("GET", f"/ws?ticket={logins.new_ticket(reader, now())}", {})
    assert stranger.gateway.admit_websocket(call) == (None, reader), "it may do what its maker may"
    with pytest.raises(Refused):
        stranger.gateway.admit_websocket(call)


async def test_only_a_browser_that_looks_is_led_from_the_root(stranger: Site) -> None:
    html = {"accept": "text/html,*/*"}
    assert (await api(stranger, "GET", "/", accept=html["accept"])).status == 303
    assert (await api(stranger, "HEAD", "/", accept=html["accept"])).status == 303
    for method, headers in (("GET", {}), ("POST", html), ("DELETE", html), ("GET", {"accept": "application/json"})):
        call = stranger.gateway.resolve(method, "/", headers)
        assert (call.match, call.target) == (None, None)
