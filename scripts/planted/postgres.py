"""Faults planted in the store in PostgreSQL: its fence, the answer that was lost, and the tail that is written again."""

from planted.row import Mutant

_STORE, _LINK, _SQL = "storage/postgres/store.py", "storage/postgres/link.py", "storage/postgres/ddl/0001_initial.sql"

POSTGRES = [
    Mutant(_SQL, "WHERE term = p_term AND life = p_life AND batch = p_batch - 1;", "WHERE batch = p_batch - 1;", "who was taken over goes on writing"),
    Mutant(_SQL, "WHERE term = p_term AND life = p_life AND batch = p_batch - 1;", "WHERE term = p_term AND life = p_life;", "a lost answer is a batch twice"),
    Mutant(_SQL, "WHERE term = p_term AND life = p_life AND batch = p_batch - 1;", "WHERE term = p_term AND batch = p_batch - 1;", "another history is written to"),
    Mutant(_SQL, "            RETURN now_is.answer;  --", "            RETURN NULL;  --", "a record that made room is counted still"),
    Mutant(_SQL, "        UPDATE bq.leader SET answer = gone;\n", "", "what a batch has answered is not remembered"),
    Mutant(_SQL, "beat = clock_timestamp(), answer = NULL\n", "answer = NULL\n", "a busy leader loses its lease"),
    Mutant(_SQL, "    UPDATE bq.leader SET beat = clock_timestamp() WHERE term = p_term AND life = p_life;\n    IF NOT FOUND THEN", "    UPDATE bq.leader SET beat = clock_timestamp();\n    IF NOT FOUND THEN", "who was taken over deletes"),
    Mutant(_SQL, "BEGIN\n    PERFORM bq.lead(p_term, p_life);\n    RETURN QUERY", "BEGIN\n    RETURN QUERY", "who was taken over deletes records"),
    Mutant(_SQL, "BEGIN\n    PERFORM bq.lead(p_term, p_life);\n    DELETE FROM bq.event_batch", "BEGIN\n    DELETE FROM bq.event_batch", "who was taken over deletes events"),
    Mutant(_SQL, "    PERFORM bq.lead(p_term, p_life);\n    WITH gone", "    WITH gone", "who was taken over deletes acts"),
    Mutant(_STORE, '"WHERE beat + lease < clock_timestamp() RETURNING', '"RETURNING', "two servers lead"),
    Mutant(_STORE, "SET term = term + 1, life", "SET life", "a term is used twice"),
    Mutant(_STORE, "            for known in self._forgotten(fenced):\n                self._writer", "            for known in self._forgotten(fenced)[1:]:\n                self._writer", "the first of a lost tail is missing"),
    Mutant(_STORE, "            for known in self._forgotten(fenced):\n                await", "            for known in self._forgotten(fenced)[:-1]:\n                await", "the last of a lost tail is missing"),
    Mutant(_STORE, " or len(tail) != self._batch - fenced.batch:", ":", "half of a lost tail is written"),
    Mutant(_STORE, "        while self._tail_bytes > STORE_TAIL_BYTES:", "        while False:", "the tail takes all memory"),
    Mutant(_STORE, "        self._batch, self._beat_at = number, sent_at\n", "        self._beat_at = sent_at\n", "every batch is the first"),
    Mutant(_STORE, "            self._recounts = True  #", "            pass  #", "what was deleted without an answer is counted still"),
    Mutant(_STORE, "            for queue, state, fingerprint in json.loads(gone", "            for queue, state, fingerprint in json.loads(None and gone", "what made room is counted still"),
    Mutant(_STORE, "            self._beat_now()\n", "", "a long start loses the lease"),
    Mutant(_STORE, "            if self._leader[0] and self._writer.is_open:", "            if False:", "the next server waits for a lease that nobody has"),
    Mutant("storage/postgres/standby.py", "if not reached and trio.current_time() >= give_up_at:", "if not reached:", "a start does not wait for its database"),
    Mutant("storage/postgres/standby.py", "                patient_until = trio.current_time() + lease_s\n", "", "a standby is quicker than the leader that has what the database lost"),
    Mutant(_LINK, "            return\n        self.close()\n", "            return\n", "an answer is taken for another's"),
    Mutant(_LINK, "        if code[:2] in _OURS and code != _PRIVILEGE:", "        if code[:2] in _OURS:", "a missing right ends the server"),
    Mutant("storage/postgres/arrays.py", 'text.replace("\\1", "\\1\\2").replace("\\0", "\\1\\1")', 'text.replace("\\0", "\\1\\1")', "two texts are one"),
    Mutant("storage/postgres/schema.py", "    if have > known:", "    if False:", "a newer schema is written to"),
    Mutant("storage/postgres/place.py", 'return _OURS.sub(f"{self.schema}.", text)', 'return _OURS.sub("bunqueue.", text)', "two installations share their tables"),
    Mutant("engine/holding.py", "self.epoch if self.rules.fenced else job.epoch", "job.epoch", "a job is given out by who was taken over"),
    Mutant("runtime/lookups.py", "        if not self._lookups.leads():\n", "        if False:\n", "who may have been taken over answers from memory"),
    Mutant("runtime/services.py", "        await trio.sleep(self._store.lease_s / BEATS_A_LEASE)", "        await trio.sleep(self._store.lease_s)", "a lease ends before it is renewed"),
    Mutant("runtime/services.py", "                self._journal.note_failure(error)\n            else:", "                pass\n            else:", "an idle server is ready without its database"),
    Mutant("runtime/services.py", "                self._journal.note_answer()\n", "                pass\n", "an idle server is never ready again"),
    Mutant("runtime/supervisor.py", "            if is_taken_over(error):\n", "            if False:\n", "who was taken over tries again"),
    Mutant("runtime/tree.py", "breaks_invariant(error) or is_taken_over(error)", "breaks_invariant(error)", "who was taken over writes what is left"),
]  # fmt: skip
