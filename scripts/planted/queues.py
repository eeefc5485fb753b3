"""Faults in what a queue holds: its lines of jobs, their blocks, and what all queues share that have nothing of a kind."""

from planted.row import Mutant

QUEUES = [
    Mutant("engine/queue.py", "        self.names.remove(name)\n", "", "a name that is gone is listed"),
    Mutant("engine/line.py", "sum(map(len, self.blocks[:at])) + bisect", "bisect", "a rank within its block"),
    Mutant("engine/ready.py", "min(above, _COUNTED)", "above", "priorities counted without end"),
    Mutant("engine/ready.py", "-turn[0])", "turn[0])", "a page goes on in another priority"),
    Mutant("engine/ready.py", "Line(neg)", "Line(int)", "lowest first"),
    Mutant("engine/ready.py", "            lower.take(priority)\n", "            pass\n", "empty lines linger"),
    Mutant(
        "engine/ready.py",
        "            self._blocks = lower.take(self._priority).blocks\n",
        "            self._blocks = lower.lines[self._priority].blocks\n",
        "a line that is the highest one is below itself",
    ),
    Mutant(
        "engine/ready.py",
        "            self._lower.put(self._priority, Line(BY_PLACE, self._blocks))\n",
        "",
        "a higher priority is in the place of those that wait",
    ),
    Mutant(
        "engine/ready.py",
        "        if priority > self._priority:\n",
        "        if False:\n",
        "the first priority stays the first",
    ),
    Mutant(
        "engine/ready.py",
        "turn is None or -turn[0] > self._priority",
        "turn is None",
        "a page that goes on at a priority above all is empty",
    ),
    Mutant(
        "engine/ready.py",
        "            self._blocks, self._priority = [[job]], job.priority\n",
        "            self._blocks += [[job]]\n            self._priority = job.priority\n",
        "the self-audit sees jobs of another priority in a line that was emptied",
    ),
    Mutant(
        "engine/ready.py",
        "        if self._lower is _NONE:\n            self._lower = Lower()\n",
        "",
        "all queues have the priorities of one",
    ),
    Mutant(
        "engine/ready.py",
        "        if not lower.lines:\n            self._lower = _NONE\n",
        "",
        "a queue keeps what it needed for two priorities",
    ),
    Mutant(
        "engine/queue.py",
        "            if not self.active:\n                self.active = _NOT_HELD\n",
        "",
        "a queue keeps what it needed for an active job",
    ),
    Mutant(
        "engine/queue.py",
        "        if not self.keys:\n            self.keys = _NO_KEYS\n",
        "",
        "a queue keeps what it needed for a key",
    ),
    Mutant(
        "engine/queue.py",
        "        if not self.keys:\n            self.keys = {}\n",
        "",
        "all queues hold the keys of one",
    ),
    Mutant(
        "engine/queue.py",
        "not (self.ready or self.active or self.delayed or self.waiting_children)",
        "not (self.ready or self.active or self.delayed)",
        "a queue is dropped whose jobs wait for others",
    ),
    Mutant("runtime/server.py", "        self.queues_seen.forget()\n", "", "what all queues hold is kept for a minute"),
    Mutant(
        "engine/audit.py",
        "if ready._lower.lines and not ready._blocks:",
        "if False:",
        "nobody sees that the first line is empty",
    ),
    Mutant(
        "engine/audit.py",
        "(below is not None and below >= ready._priority)",
        "False",
        "nobody sees that a lower priority is first",
    ),
    Mutant("engine/ready.py", "lifo.order < 0", "lifo.order > 0", "the age of a line is that of its newest job"),
    Mutant("engine/line.py", "if self.place(block[-1]) < place:", "if True:", "a line out of order"),
    Mutant("engine/ready.py", " and end[-1].order < job.order", "", "whoever gets ready stands at the end"),
    Mutant(
        "engine/ready.py",
        " and len(end := blocks[-1]) < lines.BLOCK_MAX and end",
        " and (end := blocks[-1]) and end",
        "a block without end",
    ),
    Mutant(
        "engine/line.py", "        many.sort(key=self.place)\n", "", "the order of the disk is the order of the jobs"
    ),
    Mutant("engine/line.py", "        if not block:\n            del blocks[at]\n", "", "empty blocks stay"),
    Mutant("engine/line.py", "            del block[half:]\n", "", "half a block stands twice"),
    Mutant("engine/line.py", "if block[i] == one:", "if block[i] is one:", "equal numbers are two"),
    Mutant("engine/line.py", "chain.from_iterable(blocks[at + 1 :])", "()", "a page ends with its block"),
    Mutant(
        "engine/line.py",
        "start = bisect_right(blocks[at], place",
        "start = bisect_left(blocks[at], place",
        "the last of a page is the first of the next",
    ),
    Mutant("engine/ready.py", "        self._size += len(jobs)\n", "", "a start counts no ready jobs"),
    Mutant("engine/queue.py", "            del self.active[job]\n", "            pass\n", "an active job stays listed"),
    Mutant("engine/queue.py", "_.:-]{1,256}", "_.:-]{1,255}", "a name of 256 characters"),
    Mutant(
        "engine/line.py",
        "                blocks[-1] = _closed(block)\n",
        "                pass\n",
        "whoever collects garbage looks at each waiting job",
    ),
    Mutant(
        "engine/line.py",
        "        self.blocks[1:-1] = map(_closed, self.blocks[1:-1])\n",
        "",
        "whoever collects garbage looks at each loaded job",
    ),
    Mutant(
        "engine/line.py",
        "            if len(blocks) > 1:\n                blocks[-1]",
        "            if True:\n                blocks[-1]",
        "the block that jobs leave is closed",
    ),
]
