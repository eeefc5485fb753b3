"""Faults planted in how connections are accepted, take turns, and end with the server."""

from planted.row import Mutant

CONNECTIONS = [
    Mutant("runtime/signals.py", "number for number in self._ours.recv(4096) if", "number for number in set(self._ours.recv(4096)) if", "two signals in one step are one"),
    Mutant("runtime/signals.py", "signal.SIG_IGN)", "signal.SIG_DFL)", "a signal that comes at the very end decides on the exit code"),
    Mutant("transports/listener.py", "            await self._reading.wait()\n", "            pass\n", "the first request that needs the web framework stops everybody"),
    Mutant("transports/tls.py", "while place < len(came) and ended < RECORDS_A_STEP:", "while place < len(came):", "OpenSSL works off all records without data in one step"),
    Mutant("transports/tls.py", "        self.without_data += ended\n", "", "a connection may change its keys for ever"),
    Mutant("transports/tls.py", "max(0, self._records.without_data - 2)", "0", "a byte of data makes up for any number of changed keys"),
    Mutant("transports/tls.py", "self._records.turns, self._records.without_data = None, 0", "self._records.without_data = 0", "whoever has keys goes on waiting for the handshakes of others"),
    Mutant("transports/tls.py", "                await trio.lowlevel.checkpoint()\n        place", "                pass\n        place", "all handshakes go on in one round"),
    Mutant("transports/tls.py", "            await self._tls.send_all(whole[start : start + TLS_SEND_BYTES])\n", "            await self._tls.send_all(whole[start:])\n            break\n", "an answer is encrypted whole"),
    Mutant("transports/rounds.py", "while self._waiting and self._left:", "while self._waiting:", "all that waits begins in one round"),
    Mutant("transports/rounds.py", "                    trio.lowlevel.reschedule(self._waiting.popleft())\n", "                    trio.lowlevel.reschedule(self._waiting.pop())\n", "who has come last begins first"),
    Mutant("transports/rounds.py", "            self._waiting.remove(task)\n", "", "who waits no more keeps its place"),
    Mutant("transports/express.py", "        await (self._shared.pages if makes_page(request.call) else self._shared.commands).begin()\n", "", "a newcomer waits for all that others have pipelined"),
    Mutant("transports/websocket.py", "        await (self._shared.pages if asks_for_page(message) else self._shared.commands).begin()\n", "", "a newcomer waits for what others have sent by WebSocket"),
    Mutant("transports/websocket.py", "self._shared.pages if asks_for_page(message) else self._shared.commands", "self._shared.commands", "pages are as cheap as commands by WebSocket"),
    Mutant("transports/listener.py", "            await self._pages.begin()\n", "", "a newcomer waits for what others have sent in the other lane"),
    Mutant("api/costs.py", "    return (isinstance(target, str) or target in ANSWERS) and target not in _CHEAP\n", "    return False\n", "pages are as cheap as commands"),
    Mutant("transports/newcomers.py", "            self._accept_more()\n", "", "one connection is accepted in a round of all tasks"),
    Mutant("transports/newcomers.py", " and last < most:", ":", "near the limit of descriptors more are accepted than are closed"),
    Mutant("transports/newcomers.py", "            same.detach()\n", "            same.close()\n", "who accepts all that have come accepts nobody after that"),
    Mutant("api/session.py", "            assert not self._polls, ", "            assert True, ", "a pull outlives its session unseen"),
    Mutant("storage/rows.py", "    if job.state not in _ENDED:\n", "    if False:\n", "a removed job is recorded as completed"),
    Mutant("engine/engine.py", '            job.data = b""\n', "", "whoever keeps an ended job keeps its payload"),
    Mutant("doors/answering.py", "isinstance(leaf, InvariantBroken)", "isinstance(leaf, AssertionError)", "what a library asserts of a client's bytes ends the process, through a door"),
    Mutant("transports/listener.py", "                await self._all_gone.wait()\n", "                await trio.sleep_forever()\n", "a stop waits on when all connections have ended"),
    Mutant("transports/listener.py", "            if not self._connections:\n                self._all_gone.set()\n", "", "nobody tells a stop that all connections have ended"),
    Mutant("transports/express.py", "                self._watching.scope.cancel()\n            self._hold.release()\n", "                self._watching.scope.cancel()\n", "the bytes of a request that a stop has ended count for ever"),
    Mutant("pages/docs.py", '    package = find_spec("flask_swagger_ui")\n', '    package = __import__("flask_swagger_ui").__spec__\n', "files of the documentation import a web framework"),
]  # fmt: skip
