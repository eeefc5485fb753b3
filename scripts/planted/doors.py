"""Faults planted in doors: what they pass on, how it ends, and whom they trust."""

from planted.row import Mutant

_SPLICE, _HANDSHAKE, _REMOTE, _ROOM, _LINK = (
    f"doors/{name}.py" for name in ("splice", "handshake", "remote", "waiting_room", "link")
)

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
        "            with trio.fail_after(LINK_HANDSHAKE_S):\n                async with",
        "            if True:\n                async with",
        "who says nothing is waited for",
    ),
    Mutant(
        _REMOTE,
        "            self._up = trio.Event()\n            raise",
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
]
