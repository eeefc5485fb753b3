"""Faults in what is done to the file when somebody asks: copies, checks, shrinks."""

from planted.row import Mutant

UPKEEP = [
    Mutant("engine/commands/upkeep.py", "    if command.dry_run:\n", "    if False:\n", "what is only tried begins"),
    Mutant(
        "engine/commands/upkeep.py",
        "        engine.acted = False\n",
        "",
        "what is only tried is written down as an act",
    ),
    Mutant(
        "engine/commands/upkeep.py",
        "if (other := upkeep.under_way) is not None:",
        "if (other := upkeep.under_way) is None and False:",
        "two copies are made at once",
    ),
    Mutant(
        "engine/commands/upkeep.py",
        "work=replace(upkeep.begin(planned, engine.by, now))",
        "work=upkeep.begin(planned, engine.by, now)",
        "an answer says what has happened since",
    ),
    Mutant(
        "engine/upkeep.py",
        "if each.state == RUNNING",
        "if each.state != PLANNED",
        "after the first one nothing is done any more",
    ),
    Mutant("engine/upkeep.py", "        self.on_begin(work)\n", "", "what has begun is never done"),
    Mutant("engine/upkeep.py", "who=who, ", "", "nobody knows who wanted it"),
    Mutant("protocol/commands/upkeep.py", "role=Role.ADMIN", "role=Role.WORK", "a worker fills the disk with copies"),
    Mutant(
        "storage/copies.py",
        "    return at if name_of(file, at) == name else None\n",
        "    return at\n",
        "a file with nearly the name of a copy is deleted as one",
    ),
    Mutant(
        "storage/copies.py",
        "            and entry.is_file(follow_symlinks=False)\n",
        "",
        "a link is a copy",
    ),
    Mutant("storage/copies.py", "sorted(found, key=lambda each: each.at)", "found", "any copy is the oldest"),
    Mutant(
        "storage/copies.py",
        "        if _at(left.name.removesuffix(UNFINISHED), file) is not None:\n",
        "        if True:\n",
        "what others write is cleared away",
    ),
    Mutant("storage/sqlite/copied.py", "_MODE = 0o600", "_MODE = 0o644", "everybody reads a copy"),
    Mutant(
        "storage/sqlite/copied.py",
        "            self._meaning.note(str(damaged))\n",
        "",
        "damage that a copy has met is forgotten",
    ),
    Mutant(
        "storage/sqlite/copied.py",
        "        self._look()\n        try",
        "        try",
        "another file is copied than that of the server",
    ),
    Mutant(
        "runtime/upkeep.py",
        "            if is_over.is_set():\n",
        "            if False:\n",
        "a stop waits for the end of a copy",
    ),
    Mutant(
        "runtime/upkeep.py",
        "            if room_of(target.parent) < reserve:\n",
        "            if False:\n",
        "a copy takes the last room of the disk",
    ),
    Mutant(
        "runtime/upkeep.py",
        "len(place.copies), self._what_hinders(place)",
        "len(place.copies), place.error",
        "nobody sees that there is no room for copies",
    ),
    Mutant(
        "runtime/upkeep.py",
        "        if place.error is None and place.room < needed:\n",
        "        if False:\n",
        "a copy begins for which there is no room",
    ),
    Mutant(
        "runtime/upkeep.py",
        "                clear(directory, file)\n",
        "                pass\n",
        "what killed servers have left takes the room of copies",
    ),
    Mutant(
        "runtime/upkeep.py", "        for name in work.drops:\n", "        for name in ():\n", "copies fill the disk"
    ),
    Mutant(
        "runtime/upkeep.py",
        "len(place.copies) + 1 - self",
        "len(place.copies) - self",
        "one copy more is kept than is wanted",
    ),
    Mutant(
        "runtime/upkeep.py",
        "        error: str | None = STOPPED\n",
        "        error: str | None = None\n",
        "a copy that was cut off is done",
    ),
    Mutant(
        "runtime/upkeep.py",
        "            self._writing.deadline = trio.current_time() + STOP_S\n",
        "",
        "a stop waits for a disk that hangs",
    ),
    Mutant(
        "runtime/upkeep.py",
        "self._clock.now(), taken)",
        "self._clock.now())",
        "of two copies in a second one fails",
    ),
    Mutant(
        "storage/copies.py",
        "            and not _is_queue(entry.path)\n",
        "",
        "a queue that was made of a copy is deleted as one",
    ),
    Mutant(
        "storage/sqlite/looking.py",
        "            raise StoreDamaged(said)\n",
        "",
        "of two damaged tables a check names one",
    ),
    Mutant(
        "storage/sqlite/inspect.py",
        "                        backup.finish()\n",
        "                        pass\n",
        "a full disk is no error",
    ),
    Mutant(
        "runtime/upkeep.py",
        "                work.findings.append(str(damaged))\n",
        "                pass\n",
        "a check finds nothing",
    ),
    Mutant(
        "runtime/upkeep.py",
        "            work.findings.append(damage)\n",
        "            pass\n",
        "a check says that nothing is wrong with a file in which damage was met",
    ),
    Mutant(
        "runtime/upkeep.py",
        " and not any(damage in each for each in work.findings)",
        "",
        "a check says the same damage twice",
    ),
    Mutant(
        "runtime/upkeep.py",
        "(space.free if is_loose(space.free, space.file) else 0)",
        "0",
        "a copy is refused the room that it does not need",
    ),
    Mutant("runtime/upkeep.py", "            self._on_end()\n", "", "an open page does not hear that it is done"),
    Mutant(
        "runtime/upkeep.py",
        "        await self._run(partial(self._store.checkpoint, restart=False))\n",
        "",
        "what a shrink gives back stays in the file",
    ),
]
