"""Faults planted in what doors and leaders of two versions say, in heads that are numbers between them, and in how soon a death is seen."""

from planted.row import Mutant

VERSIONS = [
    Mutant(
        "doors/asking.py",
        "                    self._heads.clear()\n",
        "",
        "a door calls a head by a number that its leader does not know",
    ),
    Mutant(
        "doors/asking.py",
        "                    self._version = 1\n",
        "",
        "a door speaks to the next leader as to the last one, which was newer",
    ),
    Mutant("doors/asking.py", "min(max(extra, 1), VERSION)", "VERSION", "a door takes an old leader for a new one"),
    Mutant(
        "doors/asking.py",
        "if self._version == 1 or not end:",
        "if self._version == 1:",
        "a door gives numbers to heads that never come again",
    ),
    Mutant(
        "doors/asking.py",
        "keep=not extra & ENDS)",
        "keep=True)",
        "a door does not say that a connection ends with its answer",
    ),
    Mutant(
        "doors/asking.py",
        "            if len(self._heads) >= HEADS_KEPT:\n",
        "            if False:\n",
        "a door has numbers without end",
    ),
    Mutant("doors/answering.py", "known.length == len(body)", "True", "a body is not as long as its head says"),
    Mutant(
        "doors/answering.py",
        "            if self._version > 1:\n                shape",
        "            if True:\n                shape",
        "a door gets heads by numbers that it does not understand",
    ),
    Mutant(
        "doors/known.py", "if number >= HEADS_KEPT:", "if False:", "a door fills the memory of its leader with heads"
    ),
    Mutant(
        "doors/known.py",
        "headers is last_headers and status == last_status",
        "headers is last_headers",
        "a response gets the status of the one before",
    ),
    Mutant(
        "doors/frames.py",
        "    except msgspec.MsgspecError as error:\n",
        "    except NotImplementedError as error:\n",
        "what a door says ends its leader",
    ),
    Mutant("api/beginning.py", "            check(fills=fills)\n", "", "an overloaded server reads what a door asks"),
    Mutant(
        "api/beginning.py",
        "if size > SMALL_BODY_BYTES or not size:",
        "if not size:",
        "a large request at a door does not wait its turn",
    ),
    Mutant(
        "api/beginning.py",
        "not server.limiter.enabled and call.is_admitted",
        "call.is_admitted",
        "a door knows no rate limit of clients",
    ),
    Mutant(
        "api/beginning.py",
        "call.is_admitted and call.lacks is None",
        "call.lacks is None",
        "a door needs no token",
    ),
    Mutant(
        "api/beginning.py",
        "kind in ACTS or kind in TAKES",
        "kind in TAKES",
        "nobody knows who did what through a door",
    ),
    Mutant(
        "api/beginning.py",
        "call.is_admitted and call.lacks is None",
        "call.is_admitted",
        "at a door every token may do everything",
    ),
    Mutant(
        "doors/remote.py",
        "                self._note_down()\n                self._news.ring()\n",
        "                self._note_down()\n",
        "the end of a leader is seen at the next look only",
    ),
    Mutant(
        "doors/remote.py",
        "            self._last, self.is_gone = self._leader, False\n            self._news.ring()\n",
        "            self._last, self.is_gone = self._leader, False\n",
        "the next leader is looked for late",
    ),
    Mutant(
        "storage/postgres/standby.py",
        "if self._until is not None and trio.current_time() < self._until:",
        "if False:",
        "who waits is in no hurry to follow a dead leader",
    ),
    Mutant(
        "storage/postgres/standby.py",
        "if self._until is not None and trio.current_time() < self._until:",
        "if self._until is not None:",
        "a leader whose address is wrong is looked at without end",
    ),
    Mutant(
        "doors/remote.py",
        "            self.is_gone = False\n        if self._leader",
        "            pass\n        if self._leader",
        "a leader that has just begun is taken for the one that has ended",
    ),
    Mutant(
        "storage/postgres/standby.py",
        "                hurry.leader = None\n",
        "",
        "who does not see where the leader is takes it for dead",
    ),
    Mutant(
        "doors/answering.py",
        "data[sent:], [(message, None, hold) for message, _, hold in some] if sent else some",
        "data[sent:], some",
        "a job of whose answer a part was handed over is given to somebody else",
    ),
    Mutant(
        "doors/answering.py",
        "self._left = data[sent:], [",
        "self._left = data, [",
        "what was handed over in part is said twice",
    ),
    Mutant(
        "doors/answering.py",
        "        if self._left is None and self._out:",
        "        if self._out:",
        "what is said later overtakes what the kernel had no room for",
    ),
    Mutant(
        "doors/answering.py",
        "while self._left is not None or self._out:",
        "while self._out:",
        "what the kernel had no room for is never said",
    ),
    Mutant(
        "doors/answering.py",
        'unsent = [*(self._left or (b"", []))[1], *self._out]',
        "unsent = [*self._out]",
        "a job for which the kernel had no room is lost with its door",
    ),
    Mutant("doors/answering.py", "        self._send_nowait()\n", "", "each commit wakes the writer of each door"),
    Mutant(
        "storage/postgres/arrays.py",
        " and values[0] == values[-1] and values.count(values[0]) == len(values)",
        " and values[0] == values[-1]",
        "a column is what stands at its ends",
    ),
    Mutant(
        "storage/postgres/arrays.py",
        "_texts([*map(repr, values)])",
        "_texts([repr(values[0])] * len(values)) if len({*values}) == 1 else _texts([*map(repr, values)])",
        "of equal numbers all are written as the first",
    ),
    Mutant(
        "storage/postgres/store.py",
        "        quick = quick or batch.is_brief()\n",
        "        quick = True\n",
        "very large values are made in the event loop",
    ),
    Mutant(
        "storage/store.py",
        "self.bytes() + self.data_bytes() <= INLINE_BYTES_MAX",
        "True",
        "large values are made in the event loop",
    ),
    Mutant(
        "storage/store.py",
        "self.rows() <= STORE_INLINE_ROWS_MAX and ",
        "",
        "the values of many rows are made in the event loop",
    ),
    Mutant(
        "runtime/core.py",
        "        if not is_checked:\n",
        "        if False:\n",
        "who asks otherwise than by a head that is known is never refused for overload",
    ),
]
