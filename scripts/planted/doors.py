"""Faults planted in doors: what they pass on, how it ends, and whom they trust."""

from planted.row import Mutant

_SPLICE, _HANDSHAKE, _REMOTE, _ROOM, _LINK = (
    f"doors/{name}.py" for name in ("splice", "handshake", "remote", "waiting_room", "link")
)

_ANSWERING, _ASKING, _LANE, _DOOR = (f"doors/{name}.py" for name in ("answering", "asking", "lane", "door"))

DOORS = [
    Mutant(
        _SPLICE, "            both.cancel()  #", "            pass  #", "the leader never hears that a client is gone"
    ),
    Mutant(
        _SPLICE,
        "        with trio.fail_after(WRITE_TIMEOUT_S):\n            await client",
        "        if True:\n            await client",
        "a client that takes nothing stays for ever",
    ),
    Mutant(
        _SPLICE, "                await client.send_eof()\n", "                pass\n", "a client is not told the end"
    ),
    Mutant(
        _SPLICE,
        "            await leader.send_eof()\n",
        "            pass\n",
        "the leader is not told that a client says no more",
    ),
    Mutant(
        _SPLICE,
        "        nursery.cancel_scope.deadline = trio.current_time() + _AFTERWARDS_S\n",
        "",
        "a client that the leader has done with stays for ever",
    ),
    Mutant(
        _SPLICE,
        "        if _is_closed(leader):\n",
        "        if False:\n",
        "a stop waits for clients that the leader has closed",
    ),
    Mutant(
        _SPLICE,
        "                is_taken = False  #",
        "                both.cancel()  #",
        "the last answer to who still sends is lost",
    ),
    Mutant(
        _SPLICE, "unread, nursery.cancel_scope)", 'b"", nursery.cancel_scope)', "what was read of a request is lost"
    ),
    Mutant(
        _HANDSHAKE,
        "    if not hmac.compare_digest(said[_NONCE:]",
        "    if False and not hmac.compare_digest(said[_NONCE:]",
        "a stranger is told of clients",
    ),
    Mutant(
        _HANDSHAKE,
        '    if not hmac.compare_digest(said[:_PROOF], _proof(key, b"door", nonces + client)):',
        "    if False:",
        "anybody may link",
    ),
    Mutant(
        _HANDSHAKE,
        '_proof(key, b"door", nonces + client)):',
        '_proof(key, b"door", nonces)):',
        "an address is anybody's to change",
    ),
    Mutant(
        _HANDSHAKE,
        "        more = await stream.receive_some(size - len(data))",
        "        more = await stream.receive_some(65536)",
        "the client's first bytes are taken for the door's",
    ),
    Mutant(
        _REMOTE,
        "scope = trio.CancelScope(deadline=trio.current_time() + LINK_HANDSHAKE_S)",
        "scope = trio.CancelScope()",
        "who says nothing is waited for",
    ),
    Mutant(
        _REMOTE,
        "        if len(self._greeting) >= LINK_HANDSHAKES_MAX:\n",
        "        if False:\n",
        "strangers take all descriptors",
    ),
    Mutant(
        _REMOTE,
        "            self._note_down()\n            raise",
        "            raise",
        "a leader that is gone is asked for ever",
    ),
    Mutant(
        _ROOM,
        "        if self._patient >= LINK_PATIENT_MAX:\n            return False\n",
        "",
        "any number waits for a leader",
    ),
    Mutant(_ROOM, "            self._patient -= 1\n", "            pass\n", "who has waited is counted for ever"),
    Mutant(
        _LINK,
        "                serve(stream, message.removeprefix(_CONNECTION)",
        "                serve(stream, message",
        "a client has another address",
    ),
    Mutant(
        _ANSWERING,
        "request.length != len(data) - end",
        "request.length > len(data) - end",
        "what is behind a request is lost",
    ),
    Mutant(
        _ANSWERING,
        "                self._waiting[number].cancel()\n",
        "                pass\n",
        "who has hung up at a door keeps its place in line",
    ),
    Mutant(
        _ANSWERING,
        "                if kind == SENT:\n",
        "                if True:\n",
        "what a door could not send is lost",
    ),
    Mutant(
        _ANSWERING,
        "                if kind == SENT:\n",
        "                if False:\n",
        "a job that was sent comes back",
    ),
    Mutant(
        _ANSWERING,
        "            if each.begun.epoch > settled:\n",
        "            if False:\n",
        "an answer leaves before its commit",
    ),
    Mutant(
        _ANSWERING,
        "            while self._out_bytes > FRAMES_UNREAD_BYTES:\n",
        "            while False:\n",
        "a door that does not read fills the memory",
    ),
    Mutant(
        _ANSWERING,
        "            with trio.fail_after(WRITE_TIMEOUT_S):\n",
        "            if True:\n",
        "a door that hangs is kept",
    ),
    Mutant(
        _ANSWERING,
        "            self._core.give_back(waiting.begun.reply)\n",
        "            pass\n",
        "a job whose door died before its commit is lost",
    ),
    Mutant(
        _ANSWERING,
        "            if unsent.delivery is not None:\n                unsent",
        "            if False:\n                unsent",
        "a job that never left is lost",
    ),
    Mutant(
        _ANSWERING,
        "            self._fail(number)\n        else:\n            self._answer(number, response, WAITED)\n",
        "            raise\n        else:\n            self._answer(number, response, WAITED)\n",
        "a fault of one request ends a door",
    ),
    Mutant(
        _ASKING,
        "                self.say(number, UNSENT)  #",
        "                pass  #",
        "a job for who has gone meanwhile is lost",
    ),
    Mutant(
        _ASKING,
        "[asked for asked in self._asked.values() if asked.is_sent]",
        "[]",
        "a request of a lost stream waits for ever",
    ),
    Mutant(_ASKING, "if asked.is_sent]", "]", "a request that was not sent is refused"),
    Mutant(_ASKING, "self._busy >= ASKED_MAX or ", "", "a door asks without an end"),
    Mutant(_ASKING, " or self._bytes + asked.size > ASKED_MAX_BYTES", "", "a door holds without an end"),
    Mutant(
        _ASKING,
        "        self._bytes += more * asked.size\n",
        "        self._bytes += asked.size\n",
        "a door is full after a while",
    ),
    Mutant(
        _LANE,
        "                self.asking.say(client.number, GONE)\n            elif",
        "                pass\n            elif",
        "the leader waits for who has gone",
    ),
    Mutant(_ASKING, "SENT if is_sent else UNSENT", "SENT", "what was not written is lost"),
    Mutant(
        _LANE,
        "                return (request or asked.request) + unread\n",
        "                return unread\n",
        "a request that is none for frames is lost",
    ),
    Mutant(_LANE, "as hold, trio.move_on_after(PIECES_S):", "as hold:", "half a request is a door's for ever"),
    Mutant(
        _LANE,
        "                        client.scope.cancel()\n",
        "                        pass\n",
        "a silent connection stays",
    ),
    Mutant(
        _LANE,
        "client.since <= since and not client.wire.is_readable():\n                    client.scope.cancel()\n",
        "client.since <= since:\n                    pass\n",
        "a stop waits for who is idle",
    ),
    Mutant(
        _ASKING,
        "                asked.hold.grow(len(data))\n",
        "                pass\n",
        "answers fill the memory of a door",
    ),
    Mutant(
        _REMOTE,
        "        while self._server.doors.requests:",
        "        while False:",
        "a stop forgets what other servers have asked",
    ),
    Mutant(
        _ROOM,
        "                self.asking.give_up(self.refusals.of(errors.STANDBY), trio.current_time() - self._patience_s)\n",
        "                pass\n",
        "a request waits for a leader without an end",
    ),
    Mutant(_ASKING, "if asked.at <= since]:", "if True]:", "who has just asked is told that nobody leads"),
    Mutant(
        _ASKING,
        "again, False, trio.current_time()\n",
        "again, False, asked.at\n",
        "who has waited for a job is given up at once",
    ),
    Mutant(
        _LANE,
        "    return 0 <= length <= min(len(unread), RECEIVE_BYTES)\n",
        "    return 0 <= length <= len(unread)\n",
        "a client ends the frames of all others",
    ),
    Mutant(
        _ASKING,
        "            self._count(asked, is_busy=False)\n            if not",
        "            if not",
        "who waits for a job keeps others from asking",
    ),
    Mutant(
        _ASKING,
        "                    if self._stops:\n",
        "                    if False:\n",
        "the next stream of a door that stops does not say so",
    ),
    Mutant(
        _ANSWERING,
        "            self._stops = True\n",
        "            pass\n",
        "an answer of a door that stops does not say that it is the last",
    ),
    Mutant(
        _LANE, " and not client.wire.is_readable():", ":", "who has asked a door that stops gets no answer", open=True
    ),
    Mutant(
        _LANE,
        "                    self.asking.say(client.number, GONE)\n                    break\n",
        "                    break\n",
        "who has hung up gets a job first",
    ),
    Mutant(
        _DOOR,
        "self._connections_max and not await self._make_room():",
        "self._connections_max:",
        "idle connections keep everybody else out of a door",
    ),
    Mutant(
        _DOOR,
        "self._connections_max or await self._ask_for_room()",
        "self._connections_max",
        "connections that are passed on keep everybody else out of a door",
    ),
    Mutant(
        "doors/asking.py",
        " or _IGNORED in data)",
        ")",
        "a batch that the next leader is asked ignores what it has done itself",
    ),
    Mutant("transports/listener.py", "if c.door is door]", "]", "a door makes room among the connections of others"),
    Mutant(
        "doors/refusals.py",
        "application/json\\r\\n{self._cors}",
        "application/json\\r\\n",
        "a page may not read what a door refuses",
    ),
    Mutant(
        _REMOTE,
        "            self._let_go()\n            self._last",
        "            self._last",
        "a leader that hangs is asked for ever",
    ),
    Mutant(
        _REMOTE,
        "                    self._let_go()  #",
        "                    pass  #",
        "a leader that hangs holds on to clients for ever",
    ),
    Mutant(
        _ROOM,
        "        return _answer_live(request)\n",
        '        return b""\n',
        "a server that waits seems dead when its leader hangs",
    ),
    Mutant(
        _ASKING,
        "                    self._bell.ring()  # for",
        "                    pass  # for",
        "what has not gone out waits for the next request",
    ),
    Mutant(
        "doors/link.py",
        "                    await self._say(_HERE)\n",
        "                    pass\n",
        "every door is taken for one that hangs",
    ),
    Mutant(
        "doors/leading.py",
        "        self.looks = 0\n",
        "        pass\n",
        "a door that answers is taken for one that hangs",
    ),
    Mutant("doors/leading.py", "        told.looks += 1\n", "        pass\n", "a door that hangs is never replaced"),
    Mutant(
        "doors/leading.py",
        "    while told.looks < DOOR_LOOKS:\n",
        "    while told.looks < 1:\n",
        "a door that has one long step is ended",
    ),
    Mutant("doors/leading.py", "= -DOOR_START_LOOKS\n", "= 0\n", "a door that starts slowly is ended"),
    Mutant(
        _ASKING,
        "            if again is Again.NEVER:\n",
        "            if False:\n",
        "a push is done twice when its leader dies",
    ),
    Mutant(_ASKING, "or asked.again is not None or", "or", "what ends one leader ends the next ones"),
    Mutant(_ASKING, "or asked.is_told:", "or False:", "who has hung up asks the next leader"),
    Mutant(
        _ASKING,
        "        if asked.again is Again.GUARDED and (not data",
        "        if False and (not data",
        "an ack that was committed is told as refused",
    ),
    Mutant(
        _ASKING,
        "        if asked.again is Again.GUARDED and (not data.startswith(_SUCCESS) or _IGNORED in data):",
        "        if asked.again is Again.GUARDED:",
        "an ack that the next leader took is told as unknown",
    ),
    Mutant(
        _ASKING,
        "            if not asked.polls:\n",
        "            if True:\n",
        "who waits for a job gets an empty answer when its leader dies",
    ),
    Mutant(
        _ASKING,
        "            self._kept -= len(asked.request)\n",
        "            pass\n",
        "after a while nothing is asked again",
    ),
    Mutant(
        _ASKING,
        " and self._kept + asked.size <= ASKED_MAX_BYTES:",
        ":",
        "who waits for jobs takes all memory of a door",
    ),
    Mutant(
        _ASKING,
        "answer if asked.again is None else",
        "answer if True else",
        "what may have happened is told as not done",
    ),
    Mutant(
        "protocol/again.py",
        "with_token=spec.again_with_token is not None and _has_tokens(body)",
        "with_token=True",
        "an ack without a token is done twice",
    ),
    Mutant(
        "protocol/again.py",
        "Again.FREELY if method in _READS else Again.NEVER",
        "Again.FREELY",
        "a ticket is made twice",
    ),
    Mutant(
        "doors/waiting_room.py",
        "super().__init__(link, settings, repeatable)",
        "super().__init__(link, settings)",
        "a failover is an error to who only reads",
    ),
    Mutant(
        _ANSWERING,
        "            self._looks = 0\n",
        "            pass\n",
        "a door of another machine that answers is left",
    ),
    Mutant(
        _ANSWERING,
        "                self._looks += 1\n",
        "                pass\n",
        "who waits at a door that hangs gets jobs",
    ),
    Mutant(_ASKING, "            self.say(0, HERE)\n", "            pass\n", "a door seems to hang to its leader"),
    Mutant("doors/remote.py", ", looks=True)", ")", "a leader never looks at doors of other machines"),
    Mutant(
        "doors/accepting.py",
        "[_Lasting(listener)]",
        "[listener]",
        "who connects while a server begins to lead is refused",
    ),
    Mutant(
        "doors/waiting_room.py",
        "        self._keeps = not self._settings.doors  #",
        "        self._keeps = True  #",
        "doors of a server that begins to lead have an address that is taken",
    ),
]
