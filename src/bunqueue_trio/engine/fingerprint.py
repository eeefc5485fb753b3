"""Which errors are the same fault: the text of an error without what differs each time it happens.

Pure, and bounded: a text of any length costs about 30 µs, and one made to be slow 3 ms at most. How well it tells faults apart is measured by ``trials/errors``.
"""

import functools
import re
from hashlib import blake2b
from typing import NamedTuple

# Characters of the beginning, and as many of the end, where a traceback has its error.
_READ_MAX = 8000
# Of the beginning, and as many of the end.
_LINES_MAX = 150
# Characters of a line that are looked at.
_LINE_MAX = 400
# The same with what gives it colours.
_COLOURED_MAX = 2 * _LINE_MAX
_SHAPE_MAX = 200
# Characters of an error that is remembered.
_KNOWN_MAX = 1000
BLANK = "…"
"""Stands for what differs."""


class Fingerprint(NamedTuple):
    """Errors with the same ``key`` are one fault; ``shape`` is what people read of it."""

    key: str
    shape: str


CANCELLED = Fingerprint("cancelled", "Cancelled")
"""Of a job that was cancelled: that is no error, whatever was said of it, and no text of an error has this key."""


_KEY = re.compile(r"[0-9a-f]{12}|cancelled")


def is_key(text: str) -> bool:
    """Return whether a group could have this key."""
    return _KEY.fullmatch(text) is not None


def fingerprint(error: str) -> Fingerprint:
    """Return the group that ``error`` belongs to: of its type and text, and not of ids, numbers, names and places in them."""
    return _known(error) if is_remembered(error) else _made(error)


def is_remembered(error: str) -> bool:
    """Return whether it costs nothing to be asked of ``error`` again."""
    return len(error) <= _KNOWN_MAX


def work_of(error: str) -> int:
    """Return how many µs it takes at most, about, to tell what ``error`` is; of most texts it is 100."""
    line = min(len(error), _LINE_MAX)
    return 50 + line * line // 80 + min(len(error), 2 * _READ_MAX) // 16


def _made(error: str) -> Fingerprint:
    shape = _shape(_headline(error))
    return Fingerprint(blake2b(shape.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest(), shape)


# What fails often says the same.
_known = functools.lru_cache(maxsize=1024)(_made)


# --- which line it is ---------------------------------------------------------------------------------

_TRACEBACK = "Traceback (most recent call last)"
_CAUSE = "Caused by: "
_FRAME = re.compile(r"\s|at |\.\.\.|File |-->|\^|~|\||#\d")
"""How lines begin that tell where an error was, and not what."""
_TELLS = re.compile(r"\b(?:[A-Z]\w*(?:Error|Exception)|(?i:error|exception|fatal|panic(?:ked)?|critical))\b")
_GROUP = re.compile(r"^[\s|+-]*[|+]-* ?")
"""What stands before the lines of a group of exceptions in Python."""


def _headline(error: str) -> str:
    """Return the line that says what went wrong."""
    if len(error) > 2 * _READ_MAX:
        begin, end = error[:_READ_MAX], error[-_READ_MAX:]
        # A line that was cut says what is not so.
        error = begin + "\n" + (end.partition("\n")[2] or end)
    lines = [line[:_COLOURED_MAX] for line in error.splitlines() if line.strip()]
    if len(lines) > 2 * _LINES_MAX:
        lines = lines[:_LINES_MAX] + lines[-_LINES_MAX:]
    if not lines:
        return ""
    if len(lines) == 1:
        return lines[0].strip()
    traced = [i for i, line in enumerate(lines) if _TRACEBACK in line]
    if traced:
        if _GROUP.match(lines[traced[0]]):
            lines = [_GROUP.sub("", line, count=1) for line in lines[traced[0] :]]
            # What it is a group of comes later.
            traced = [0]
        told = [line for line in lines[traced[-1] + 1 :] if line[:1].strip()]
        if told:
            return told[0].strip()
    caused = [line for line in lines if line.startswith(_CAUSE)]
    if caused:
        return f"{caused[-1].removeprefix(_CAUSE).strip()} ← {_first(lines)[1]}"
    at, line = _first(lines)
    # The message of a panic in Rust has a line of its own.
    return f"{line} {lines[at + 1].strip()}" if line.endswith(":") and at + 1 < len(lines) else line


def _first(lines: list[str]) -> tuple[int, str]:
    """Return the first line that speaks of an error, or else the first of all, and which it is."""
    at = next((i for i, line in enumerate(lines) if not _FRAME.match(line) and _TELLS.search(line)), 0)
    return at, lines[at].strip()


# --- what differs -------------------------------------------------------------------------------------

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_ENDS = "com|org|net|io|dev|app|edu|gov|internal|intern|local|localdomain|lan|cluster|example|test|invalid|de|uk|eu|cn"
_DIFFERS = re.compile(
    "|".join((
        # Plain words, which stay: else each of their letters is tried as the beginning of all that follows here.
        rf"(?<!\S)((?:[A-Za-z]+(?<!Mon|Tue|Wed|Thu|Fri|Sat|Sun|{_MONTHS})[:,;]?(?:\s+|\Z))+)",
        # Times.
        r"\d{4}[-/]\d\d[-/]\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:Z\b| ?[+-]\d\d:?\d\d\b| UTC\b| GMT\b)?",
        rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:\d{{1,2}} (?:{_MONTHS})(?: \d{{4}})?|(?:{_MONTHS}) [ \d]\d)(?:,? \d\d:\d\d:\d\d)?(?: \d{{4}})?\b",
        # What is a link, or somebody's.
        r"\b[a-z][a-z0-9+.-]{0,20}://[^\s'\"<>()\[\]]*[^\s'\"<>()\[\].,:;]",
        r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)*",
        # Ids, by their look.
        r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\b",
        r"\b0x[0-9a-fA-F]+",
        r"\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,}\b|\b(?=[A-F]*[0-9])(?=[0-9]*[A-F])[0-9A-F]{8,}\b",
        r"\b(?=[A-Za-z_-]*[0-9][A-Za-z_-]*[0-9])[\w-]{20,}\b",
        # Where in the network.
        r"\[?\b[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){3,7}\b\]?(?::\d+)?|\[?::1\]?(?::\d+)?",
        r"\b\d{1,3}(?:\.\d{1,3}){3}(?:[:/]\d+)?\b",
        rf"(?<![\w.-])(?:[a-zA-Z0-9-]{{1,63}}\.){{1,6}}(?:{_ENDS})\b(?![.\w])(?::\d+)?",
        r"\b(?:localhost|[a-z][a-z0-9-]*):\d{2,5}\b",
        # Where on a disk, or in a program.
        r"(?:\b[A-Za-z]:)\\[^\s'\"<>|:;,()]+(?:[:(]\d+)*",
        r"(?:(?<![\w./])(?:~|\.{1,2})?/[\w.@%+=~-]+(?:/[\w.@%+=~-]*)*|(?<![\w./-])[\w.-]{1,80}(?:/[\w.-]{1,80}){1,12}\.[A-Za-z]\w{0,5}\b)(?::\d+)*",
        r"(?<![\w.-])[\w-]{1,80}\.(?:py|js|mjs|cjs|ts|tsx|rs|go|c|cc|cpp|h|hpp|java|kt|rb|php|pl|pm|cs|sh|sql|json|ya?ml|toml|xml|csv|txt|log|conf|cfg|ini|tcl|ex|exs|lua|swift|scala|tar|gz|zip|pdf|png|jpe?g|pem|crt|key|db)\b(?:[:(]\d+)*(?:, line \d+)?",
    ))
)  # fmt: skip
# Quotes; an apostrophe inside or at the end of a word is none.
_QUOTED = re.compile(
    r"""(?<![\w'])'(?:[^'\n]|(?<=\w)'(?=\w))*'(?!\w)|(?<!\w)"(?:[^"\\\n]|\\.)*"|`[^'`\n]*['`]|‘[^’\n]*’|“[^”\n]*”|«[^»\n]*»"""
)
# A number that says which error it is: after such a word, or in a name such as E0308 or ORA-00942.
_CODE = re.compile(
    r"\b(?:(?i:status(?: ?code)?|code|errno|signal|exit(?:ed)?(?: with)?(?: (?:code|status))?|error(?: code)?)|HTTP(?:/\d(?:\.\d)?)?|SQLSTATE)"
    r"[\s:=(\[#\"]{0,3}\d{1,5}\b(?![.:]\d)"
    r"|\b[A-Z]{1,4}-?\d{3,5}\b(?=[:\])])|^\(?\d{3,5}\b(?=[:,)]| [A-Z])|\b[A-Z]\w*\(\d{1,4}\)"
)
_NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d+(?:[.,:]\d+)*(?:[eE][-+]?\d+)?[A-Za-zµ%]{0,3}\b|(?<=[A-Za-z])\d{2,}(?!\d)")
_IN_NAMES = frozenset({"16", "32", "64", "86", "128", "256", "384", "512"})
"""Numbers that belong to the word before them: int32, sha256, base64."""
# What the server says itself of a job whose dependency has any name.
_OURS = re.compile(r"Dependency .* failed", re.DOTALL)
_UNCAUGHT = re.compile(r"(?:Uncaught |Unhandled exception[.:] |Exception in thread \"[^\"]*\" )+")
# Of JSON in quotes nobody escapes the quotes.
_JSON = re.compile(r"(?<=, )\"[\[{].*\"(?= is not valid JSON)")
_PLURAL = re.compile(
    r"(?<=… )((?:sub-exception|second|minute|hour|day|byte|item|row|character|time|argument|element|attempt|error|record|file|job)s?)\b"
)
_SPACE = re.compile(r"\s+")
_MANY = re.compile(rf"{BLANK}(?:(?:, ?|; ?| |/|:|-|\.|=|\||\+| and | or ){BLANK})+")


def _shape(line: str) -> str:
    if _OURS.fullmatch(line):
        return f"Dependency {BLANK} failed"
    line = _ANSI.sub("", line)[:_LINE_MAX].replace("\x00", "").strip()
    if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'`":
        line = line[1:-1]
    is_json = line[:1] in {"{", "["} and '":' in line
    if not is_json:
        line = _QUOTED.sub(BLANK, _JSON.sub(BLANK, _UNCAUGHT.sub("", line, count=1)))
    line = _DIFFERS.sub(_blank, line)
    # The codes stay: their digits are out of reach meanwhile.
    codes: list[str] = []
    line = _NUMBER.sub(_number, _CODE.sub(lambda found: _put_by(codes, found[0]), line))
    for code in codes:
        line = line.replace("\x00", code, 1)
    line = _PLURAL.sub(lambda found: found[0].removesuffix("s"), _MANY.sub(BLANK, _SPACE.sub(" ", line)))
    return line[:_SHAPE_MAX].rstrip(": ")


def _put_by(codes: list[str], code: str) -> str:
    codes.append(code)
    return "\x00"


def _blank(found: re.Match[str]) -> str:
    return found[1] or BLANK


def _number(found: re.Match[str]) -> str:
    return found[0] if found[0] in _IN_NAMES and found.string[found.start() - 1].isalpha() else BLANK
