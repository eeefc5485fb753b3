"""Addresses in each spelling: one place has one, and what is none says why, and shows no secret."""

from typing import Any

import pytest

from bunqueue_trio.protocol.address import http_url

FORMS = "is not host:port, ws"
ODD, USER, MORE, PATH, PORT = (
    "a space or a control character",
    "a user or a password",
    "a query or a fragment",
    "has a path",
    "no port from 1",
)
HOST, SOCKET, IPV6 = "names no host", "names no socket", "in its brackets"

NONE: dict[Any, str] = {
    5: "5 is no text", b"http://x": "b'http://x' is no text", b"": "b'' is no text", 0: "0 is no text", (): "no text",
    "ftp://x:1": FORMS, "tcp://x:1": FORMS, "redis://x": FORMS, "://x:1": FORMS, "wss+x://x": FORMS, "http//x:1": PATH, "http:/x:1": PATH,
    " http://x": ODD, "http://x:1 ": ODD, "http://x:1\n": ODD, "http://x y:1": ODD, "x\x00y:1": ODD, "x\ty:1": ODD, "http://\x1b[31mx": ODD,
    "x\u2028y:1": ODD, "x\xa0y": ODD, "ht tp://x": ODD,
    "http://ann:secret@x:1": USER, "ann@x": USER, "ws://ann:se/cret@x:1/ws": USER, "http://x:1/?to=ann:secret@x": USER,
    "http://x:1?a=b": MORE, "http://x:1/#top": MORE, "x#": MORE, "ws://x/ws?token=secret": MORE,
    "http://x:1/queues": PATH, "x:1/a/b": PATH, "ws://x/wss": PATH, "http://x:1//x:2": PATH, "x/ws/ws": PATH,
    "x:0": PORT, "x:70000": PORT, "x:65536": PORT, "x:seven": PORT, "http://x:": PORT, "x:-1": PORT, "x:+1": PORT, "x:1_0": PORT, "x:٣": PORT,
    "x:1.5": PORT, "[::1]:0": PORT, "[::1]:": PORT,
    "http://": HOST, "ws:///ws": HOST, ":6790": HOST, "http://.": HOST, "http://..": HOST, "a..b:1": HOST, "a%20b:1": HOST, "x\\y": HOST,
    "x,y:1": HOST, "x;y": HOST, "<x>": HOST, "x" * 64 + ".example": HOST, "x\u200by$": HOST, "*:1": HOST, "-": HOST,
    "::1": "IPv6 address stands in brackets", "fe80::1:6790": "IPv6 address stands in brackets", "x:1:2": "more than one colon",
    "ws://[::1": IPV6, "[::1]6790": IPV6, "[::1%]:1": IPV6, "[::1%e/h]": PATH, "[]:1": "no IPv6 address", "[x]:1": "no IPv6 address",
    "[1.2.3.4]:1": "no IPv6 address", "[::1%e h]:1": ODD,
    "unix:": SOCKET, "unix:/": SOCKET, "UNIX://": SOCKET, "unix:/a\nb": "a control character", "unix:/a\x00b": "a control character",
    "unix:/" + "x" * 107: "longer than the 107 bytes",
}  # fmt: skip

SOME = {
    "x": "http://x", "x:1": "http://x:1", "X.Example:06790": "http://X.Example:6790", "HTTP://x:1": "http://x:1", "Wss://x": "https://x",
    "https://x:443/": "https://x:443", "ws://x:1/ws": "http://x:1", "ws://x:1/ws/": "http://x:1", "http://x/ws": "http://x", "x:65535": "http://x:65535",
    "my_service:1": "http://my_service:1", "x.": "http://x.", "127.0.0.1:1": "http://127.0.0.1:1", "1": "http://1",
    "bücher.example:1": "http://xn--bcher-kva.example:1", "xn--bcher-kva.example": "http://xn--bcher-kva.example",
    "[::1]": "http://[::1]", "ws://[::1]:1/ws": "http://[::1]:1", "[2001:DB8::1]:1": "http://[2001:db8::1]:1", "[::ffff:1.2.3.4]:1": "http://[::ffff:1.2.3.4]:1",
    "[fe80::1%eth0]:1": "http://[fe80::1%eth0]:1", "http://[fe80::1%25eth0]:1": "http://[fe80::1%eth0]:1",
    "unix:/run/q.sock": "unix:/run/q.sock", "UNIX:/run/q.sock": "unix:/run/q.sock", "unix:///run/q.sock": "unix:/run/q.sock", "unix:q.sock": "unix:q.sock",
    "unix:/a b?c#d@e": "unix:/a b?c#d@e", "unix:/" + "x" * 106: "unix:/" + "x" * 106,
}  # fmt: skip


@pytest.mark.parametrize("url", NONE, ids=ascii)
def test_what_is_no_address_says_why(url: Any):
    with pytest.raises(ValueError, match=NONE[url]) as caught:
        http_url(url)
    assert "secret" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("url", SOME, ids=ascii)
def test_one_place_has_one_spelling(url: str):
    assert http_url(url) == http_url(SOME[url]) == SOME[url]
