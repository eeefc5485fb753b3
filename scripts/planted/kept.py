"""Faults in what is kept beside jobs: errors that jobs are tried again after, and the look at facts and records."""

from planted.row import Mutant

KEPT = [
    Mutant("engine/moves.py", "        if job.attempts and job.state is ACTIVE:\n            self.retrying.add(job)\n", "", "nobody knows what is tried again"),
    Mutant("engine/moves.py", "            if job.attempts:\n                self.retrying.take(job)\n", "", "what has ended is still tried again"),
    Mutant("engine/moves.py", "        if job.attempts:\n            self.retrying.take(job)\n        self._enter", "        self._enter", "what is promoted is tried at two times"),
    Mutant("engine/holding.py", "        if job.attempts:\n            self.retrying.take(job)\n", "", "what is delivered is still tried again"),
    Mutant("engine/holding.py", "        job.noted().fingerprint = fingerprint(error).key\n", "", "a start looks at the errors of all that are tried again"),
    Mutant("engine/edits.py", "        if retries:\n            self.retrying.add(job)\n", "", "what is postponed is tried again and in no group"),
    Mutant("engine/engine.py", "        if is_retrying(job):\n            self.retrying.add(job)\n", "", "a start knows nobody who is tried again"),
    Mutant("engine/engine.py", "job.state is not WAITING or job.attempts or", "job.state is not WAITING or", "a start forgets those who wait for their next attempt"),
    Mutant("engine/retrying.py", "            del group.queues[job.queue]\n", "            pass\n", "a queue in which nothing fails is named"),
    Mutant("engine/retrying.py", "                del self[key]\n", "                pass\n", "an error that is over is listed"),
    Mutant("engine/retrying.py", "        group.last = max(group.last, since)\n", "", "an error is as old as its first job"),
    Mutant("engine/groups.py", "sizes[key] = sizes.get(key, 0) + sum(queues.values())", "sizes.setdefault(key, sum(queues.values()))", "a group is as large as its dead letters"),
    Mutant("engine/groups.py", "queue if retrying else NOBODY", "queue", "a group without dead letters is listed unasked"),
    Mutant("engine/commands/report.py", "if run_at is None or failure.error != self._last:", "if run_at is None:", "what many are tried again after is found out in one step"),
    Mutant("runtime/new_errors.py", "before[key].since if key in before else group.since", "group.since", "an error is new each time that it comes back"),
    Mutant("runtime/new_errors.py", "        for some in (self._seen, self._tried):\n", "        for some in (self._seen,):\n", "what is tried again is new for ever"),
    Mutant("runtime/tree.py", "[*server.store.groups(None), *server.engine.retrying]", "server.store.groups(None)", "all that is tried again is new after a start"),
    Mutant("pages/new_findings.py", "if error.died + error.tried < NEW_MIN", "if error.died < NEW_MIN", "an error is found when jobs die of it"),
    Mutant("engine/audit_kept.py", "known == value or (kind, key) in unsettled", "True", "a fact that is another on the disk is not found"),
    Mutant("engine/audit_kept.py", "(kind, key) not in self._seen and (kind, key) not in unsettled", "False", "a fact that is not on the disk is not found"),
    Mutant("engine/audit_kept.py", "known == value or (kind, key) in unsettled", "known == value", "a fact that is being written is a fault"),
    Mutant("engine/audit_kept.py", "if made is not None and made(", "if False and made(", "what is in force may be another than what is noted"),
    Mutant("engine/audit_kept.py", "if (n := count(self._engine)) != len(facts.of(kind)):", "if (n := count(self._engine)) is None:", "a pause that nobody has noted is not found"),
    Mutant("runtime/audit.py", "        if told != stored:\n", "        if False:\n", "a record that is gone is not found"),
    Mutant("runtime/audit.py", "(before != counted(self._engine, name) and sum(stored[:2]) > COUNTED_MAX)", "False", "commits wait for the count of a large queue"),
    Mutant("runtime/audit.py", "            await self._facts(audit)\n", "", "nobody looks at facts"),
    Mutant("storage/sqlite/auditing.py", "WHERE (kind, key) > (?, ?)", "WHERE kind > ? AND key > ?", "facts of a kind are left out"),
    Mutant("storage/readable.py", "    except (ValueError, TypeError):\n        return False\n", "    except (ValueError, TypeError):\n        return True\n", "what cannot be read is sound"),
]  # fmt: skip
