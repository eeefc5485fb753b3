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
    Mutant(
        "api/beginning.py",
        "                check(fills=fills)\n",
        "                pass\n",
        "an overloaded server reads what a door asks",
    ),
    Mutant(
        "api/beginning.py",
        "            if takes:\n                call.name_taker(command, address)\n",
        "",
        "a worker behind a door that says nothing of itself has no name",
    ),
    Mutant(
        "api/beginning.py",
        "                body = asked\n",
        '                body = b"{}"\n',
        "what a query asks for is forgotten where the head is known",
    ),
    Mutant(
        "api/beginning.py",
        "if len(body) > SMALL_BODY_BYTES or not (body or asked):",
        "if not (body or asked):",
        "a large request at a door does not wait its turn",
    ),
    Mutant(
        "api/beginning.py",
        "not server.limiter.enabled and like.is_admitted",
        "like.is_admitted",
        "a door knows no rate limit of clients",
    ),
    Mutant(
        "api/beginning.py",
        "like.is_admitted and like.lacks is None",
        "like.lacks is None",
        "a door needs no token",
    ),
    Mutant(
        "api/beginning.py",
        "kind in ACTS or kind in REVIVES",
        "kind in REVIVES",
        "nobody knows who did what through a door",
    ),
    Mutant(
        "api/beginning.py",
        "like.is_admitted and like.lacks is None",
        "like.is_admitted",
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
]
