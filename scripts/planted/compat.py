"""Faults planted in the comparison with the original, what it would not see or not ask for, and in fields that are there because of it."""

from planted.row import Mutant

_SHAPES, _DIFFERENCES, _COMPARISON, _PAGE, _ORIGINAL = (
    f"trials/compat/{name}.py" for name in ("shapes", "differences", "comparison", "page", "original")
)

COMPAT = [
    Mutant(_DIFFERENCES, "for path, both in types.items() if both[0] != both[1]}", "for path, both in types.items() if False}", "types are not compared"),
    Mutant(_DIFFERENCES, "            types[path] = union(before[0], there[path]), union(before[1], here[path])", "            types[path] = there[path], here[path]", "only the last call's types count"),
    Mutant(_DIFFERENCES, "        if there.outcome != here.outcome:", "        if there.is_good != here.is_good:", "statuses are not compared"),
    Mutant(_DIFFERENCES, "    found.only_there |= missing_here - seen_here", "    found.only_there |= set()", "what is missing here is not seen"),
    Mutant(_DIFFERENCES, "    found.only_here |= missing_there - seen_there", "    found.only_here |= set()", "what is more here is not seen"),
    Mutant(_DIFFERENCES, 'if not path.endswith("[]") and parent_of(path) in other}', "if parent_of(path) in other}", "an empty list lacks its items"),
    Mutant(_DIFFERENCES, "and parent_of(path) in other}", "}", "a missing field comes with all that is in it"),
    Mutant(_DIFFERENCES, "        if there.is_good and here.is_good:\n            shapes", "        if there.is_good:\n            shapes", "a refusal lacks the fields of a success"),
    Mutant(_DIFFERENCES, '(f"{path}[]" in there) is not (f"{path}[]" in here)', "False", "what is in a list is compared with nothing"),
    Mutant(_SHAPES, '        case dict() if "sent" in value:\n            return "sent"\n', "", "payloads are looked into"),
    Mutant(_SHAPES, "                seen[at] = union(seen.get(at, what), what)", "                seen[at] = what", "only the last item of a list has types"),
    Mutant(_SHAPES, '        case int() | float():\n            return "number"\n', '        case int():\n            return "integer"\n        case float():\n            return "number"\n', "4 is something else than 4.0"),
    Mutant(_SHAPES, "        said_otherwise = (self.status < 400) is not self.is_good", "        said_otherwise = False", "a refusal with status 200 is a success"),
    Mutant(_COMPARISON, "        if row.differs and route not in notes.WHY\n", "        if False\n", "nobody need say why something differs"),
    Mutant(_COMPARISON, "        if difference and kind not in notes.EVENTS", "        if False", "nobody need say why an event differs"),
    Mutant(_COMPARISON, "for name in found.missing if name not in told\n", "for name in ()\n", "a command may be missing without a word"),
    Mutant(_COMPARISON, "    if found.refusals != Difference(only_here=notes.REFUSALS):", "    if False:", "refusals may have any fields"),
    Mutant(_COMPARISON, "for route in sorted(routes - asked)]", "for route in () if route not in asked]", "a route that nobody asks for is not reported"),
    Mutant(_COMPARISON, "for name in sorted(commands & COMMANDS.keys() - sent)\n", "for name in () if name not in sent\n", "a command that nobody sends is not reported"),
    Mutant(_COMPARISON, "    return both, row.http - both, row.websocket - bare\n", "    return both, row.http - both, Difference()\n", "what a WebSocket alone says is not reported"),
    Mutant(_PAGE, "<= _ALIKE < len(fields):", "<= _ALIKE:", "every object is a job"),
    Mutant(_PAGE, "        if not place:\n", "        if False:\n", "a table that has no place is dropped"),
    Mutant(_ORIGINAL, '    found = set()\n    for text in _sources(kind, "http*.js", "http-routes/*.js"):', '    found = set()\n    for text in _sources(kind, "http*.js"):', "half of its routes are not read"),
    Mutant("engine/commands/dead.py", "retry_count=job.noted().auto_retries", "retry_count=0", "a list of dead letters does not say how often they were retried"),
    Mutant("engine/commands/dead.py", "next_retry_at=outlook(engine, job, now)[1]", "next_retry_at=None", "a list of dead letters does not say when they are retried"),
    Mutant("api/session.py", "self._subscription.reports.clear()\n                self._reply(0, r.SubscribedReply(subscribed=sorted(self._subscription.types))", "self._subscription.reports.clear()\n                self._reply(0, r.SubscribedReply(subscribed=[])", "who subscribes does not learn to what"),
]  # fmt: skip
