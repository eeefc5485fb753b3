"""The binary protocol of the original, as far as it is needed to say that it is not spoken here.

A frame is its length in four bytes, most significant first, and a map in MessagePack. The original's own clients send
one when they connect, and would wait for ever for an answer in HTTP.
"""

from typing import Any

import msgspec

SPEAKS = "This server speaks HTTP and WebSocket only, not the binary protocol over TCP"

_HEAD = 4
# Fixmap, map 16, map 32.
_MAPS = (*range(0x80, 0x90), 0xDE, 0xDF)


def is_msgpack(data: bytes) -> bool:
    """Return whether ``data`` begins like a frame of the binary protocol; nothing in HTTP does."""
    return len(data) > _HEAD and data[0] == 0 and data[_HEAD] in _MAPS


def refusal_in_msgpack(data: bytes) -> bytes:
    """Return the frame that answers the first frame in ``data``, with its ``reqId`` if that is there whole."""
    answer: dict[str, Any] = {"ok": False, "error": SPEAKS}
    size = int.from_bytes(data[:_HEAD], "big")
    try:
        asked = msgspec.msgpack.decode(data[_HEAD : _HEAD + size])
    except (ValueError, RecursionError):
        asked = None
    if isinstance(asked, dict) and isinstance(asked.get("reqId"), str | int):
        answer["reqId"] = asked["reqId"]
    body = msgspec.msgpack.encode(answer)
    return len(body).to_bytes(_HEAD, "big") + body
