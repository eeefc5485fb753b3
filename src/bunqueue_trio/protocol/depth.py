"""How deep JSON is nested: found without reading it, piece by piece, since a body may be ten million brackets."""

import itertools
import operator
from collections.abc import Iterator

DEPTH_MAX = 500
"""Nesting of a body; far below what would exhaust the stack of any JSON reader behind us."""

# Bytes: 2 ms where each is a bracket.
_PIECE = 256 * 1024
_NOT_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
# Deeper, less deep.
_STEPS = bytes.maketrans(b"[{]}", b"1100")
_WAYS = [list(itertools.accumulate(1 if eight << i & 128 else -1 for i in range(8))) for eight in range(256)]
# How much deeper eight steps lead, as a signed byte.
_CLIMBS = bytes(way[-1] & 255 for way in _WAYS)
# How much deeper they have been meanwhile, and how much less deep.
_PEAKS = bytes(max(0, *way) for way in _WAYS)
_LOWS = bytes(-min(0, *way) for way in _WAYS)


def is_deep(body: bytes, enclosing: int = 0) -> bool:
    """Return whether JSON is nested too deep; ``enclosing``: how many brackets there are around it."""
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX - enclosing:
        # The common case: not enough brackets to be too deep.
        return False
    return any(depth > DEPTH_MAX for depth in depths(body, enclosing))


def depths(body: bytes, enclosing: int = 0) -> Iterator[int]:
    """Look at JSON piece by piece; yield how deep each comes."""
    depth, inside = enclosing, False
    for piece in pieces(body):
        # Without its escapes a string ends at the next quote: every second part is outside of the strings.
        marks = piece.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NOT_MARKS)
        # An empty string changes nothing for the rest: so most strings go, and most of what separates them.
        parts = marks.replace(b'""', b"").split(b'"')
        outside = b"".join(parts[inside::2])
        inside ^= len(parts) % 2 == 0
        yield highest(outside, depth)
        depth += _climb(outside)


def highest(brackets: bytes, depth: int) -> int:
    """Return how deep these brackets lead at most, from ``depth``."""
    return _extremes(brackets, depth)[1]


def left_open(brackets: bytes, stack: bytes) -> bytes:
    """Return which brackets are open behind these, when those of ``stack`` were before; b"" if all were closed."""
    for _ in range(_PAIRS):
        # Pairs with nothing in between.
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    lowest, _ = _extremes(brackets, len(stack))
    if lowest <= 0:
        return b""
    fresh = bytearray()
    missing = len(stack) + _climb(brackets) - lowest
    closed = 0
    for bracket in reversed(brackets):
        if len(fresh) == missing:
            break
        if bracket in b"]}":
            closed += 1
        elif closed:
            closed -= 1
        else:
            fresh.append(bracket)
    return stack[:lowest] + fresh[::-1]


def _extremes(brackets: bytes, depth: int) -> tuple[int, int]:
    """Return how deep these brackets are at least, and at most."""
    steps = brackets.translate(_STEPS)
    # Each bracket a bit, and eight of them at once.
    whole = len(steps) // 8 * 8
    eights = int(steps[:whole] or b"0", 2).to_bytes(whole // 8 or 1, "big") if whole else b""
    before = list(itertools.accumulate(memoryview(eights.translate(_CLIMBS)).cast("b"), initial=depth))
    most = max(map(operator.add, before, eights.translate(_PEAKS)), default=depth)
    least = min(map(operator.sub, before, eights.translate(_LOWS)), default=depth)
    depth = before[-1]
    least, most = min(least, depth), max(most, depth)
    for step in steps[whole:]:
        depth += 1 if step == _DEEPER else -1
        least, most = min(least, depth), max(most, depth)
    return least, most


def _climb(brackets: bytes) -> int:
    return 2 * (brackets.count(b"[") + brackets.count(b"{")) - len(brackets)


def pieces(body: bytes) -> Iterator[bytes]:
    """Yield JSON in pieces, of which none ends in an escape."""
    begin = 0
    while begin < len(body):
        end = end_of_piece(body, begin, _PIECE)
        # What stands for an escape (surrogates.py) goes with it.
        if end < len(body):
            end = begin + (len(body[begin:end].rstrip(b"\xff")) or end - begin)
        yield body[begin:end]
        begin = end


def end_of_piece(body: bytes, begin: int, size: int) -> int:
    """Return where a piece of about ``size`` ends: in no escape."""
    end = begin + size
    last = body.rfind(b"\\", max(begin, end - _ESCAPE), end)
    if last < 0 or end >= len(body):
        return end
    before = body[begin : last + 1]
    if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
        # Each of them is the second one of two.
        return end
    return last if last > begin else last + _ESCAPE


# So often they are left out before each is looked at.
_PAIRS = 4
# Bytes of the longest one.
_ESCAPE = 6
_DEEPER = ord("1")
