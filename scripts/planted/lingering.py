"""Faults planted in when deliveries are committed, in heads of requests that are like another one, in what is done before an answer or is not done at all, and in who looks for the end of a client that waits."""

from planted.row import Mutant

LINGERING = [
    Mutant(
        "runtime/turn.py",
        "journal.summons.is_awaited or not self._lingers",
        "True",
        "a delivery is committed alone before its ack",
    ),
    Mutant(
        "runtime/turn.py",
        "journal.note(is_awaited=is_awaited)",
        "journal.note(is_awaited=False)",
        "what a step could not commit lingers",
    ),
    Mutant(
        "runtime/turn.py",
        "journal.commit_alone, lingers=False)",
        "journal.commit_alone)",
        "a lone task's change is not committed in its step",
    ),
    Mutant(
        "runtime/journal.py",
        "        self.summons.is_awaited = False\n",
        "",
        "after the first commit no delivery lingers",
    ),
    Mutant(
        "runtime/journal.py",
        "        if not self.in_turn:\n            self.summons.hurry()\n",
        "",
        "who waits for a commit waits for deliveries that linger",
    ),
    Mutant("runtime/journal.py", "        if is_awaited:\n            self.hurry()\n", "", "every change lingers"),
    Mutant(
        "runtime/summons.py",
        "move_on_after(COMMIT_LINGER_S)",
        "CancelScope()",
        "a delivery lingers until somebody waits",
    ),
    Mutant(
        "runtime/summons.py",
        "        if not self.lingers:\n            self._bell.ring()\n",
        "        self._bell.ring()\n",
        "each delivery ends the linger of those before",
    ),
    Mutant(
        "runtime/core.py",
        "now, owner, by, is_awaited=False)",
        "now, owner, by)",
        "each delivery is a commit of its own",
    ),
    Mutant(
        "transports/heads.py",
        "key = (fields.number, method, route.path)",
        "key = (0, method, route.path)",
        "what one client's header fields say holds for another's",
    ),
    Mutant(
        "transports/heads.py",
        'None if "?" in target else self._gateway.find(target, method)',
        'self._gateway.find(target.partition("?")[0], method)',
        "a query is that of another request",
    ),
    Mutant(
        "transports/hot.py",
        "            self._journal.hurry()\n",
        "",
        "the hot loop lets changes linger that somebody waits for",
    ),
    Mutant(
        "doors/answering.py",
        "            self._journal.hurry()\n",
        "",
        "changes through a door linger although somebody waits",
    ),
    Mutant(
        "transports/hot.py",
        "                self.ignore_end(descriptor)\n                on_end()\n",
        "                self.ignore_end(descriptor)\n",
        "who hangs up while it waits is waited for",
    ),
    Mutant(
        "transports/poller.py",
        "select.EPOLLRDHUP)",
        "select.EPOLLIN)",
        "what a client sends while it waits ends its pull",
    ),
    Mutant(
        "transports/express.py",
        "            if descriptor < 0:\n",
        "            if True:\n",
        "each waiting pull has a task that looks for the end of its client",
    ),
    Mutant(
        "runtime/turn.py",
        "        if journal.gathering:\n            is_awaited",
        "        self._settle()\n        if journal.gathering:\n            is_awaited",
        "an answer waits for the alarms of its turn",
    ),
    Mutant(
        "runtime/journal.py",
        "(*self.on_commit, *self.on_told)",
        "(*self.on_told, *self.on_commit)",
        "answers wait for what is counted",
    ),
    Mutant(
        "transports/heads.py",
        '{"id": job[1].decode()}',
        "like.call.match.values",
        "an ack is one of the job that was acked first",
    ),
    Mutant(
        "transports/heads.py",
        " + head_bytes[job.end(1) :]",
        "",
        "what is asked of a job is what was asked of another one first",
    ),
    Mutant(
        "transports/heads.py",
        "                _keep(self._known_of_jobs, rest, plain)\n",
        "                self._known_of_jobs[rest] = plain\n",
        "heads of jobs are kept without an end",
    ),
    Mutant(
        "transports/response_heads.py",
        "            self._around.clear()\n            self._date",
        "            self._date",
        "answers say the second of the first one",
    ),
    Mutant(
        "engine/timers.py",
        "if heap and not self._old else",
        "if heap else",
        "a deadline that has come is not seen while its heap is swept",
    ),
    Mutant(
        "engine/engine.py",
        "self._chores or self._losses or self.leases",
        "self.leases",
        "the next command does not see what a step has left",
    ),
    Mutant(
        "engine/engine.py",
        "self.leases.may_be_due(now) or self",
        "self",
        "the next command does not see that a lease is over",
    ),
    Mutant(
        "engine/engine.py",
        " or self.schedule.may_be_due(now)\n",
        "\n",
        "the next command does not see that a delay is over",
    ),
    Mutant(
        "engine/engine.py",
        "(opens is not None and opens <= now) or",
        "",
        "the next command does not see that a pause is over",
    ),
    Mutant(
        "engine/ready.py",
        "            del first[0]\n            self._size -= 1\n",
        "            del first[0]\n",
        "a job that was pulled is counted as ready",
    ),
]
