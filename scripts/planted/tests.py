"""Which tests are looked at first for a fault. A list that lacks one costs time, and lets nothing live."""

# Without test_model.py: it finds nothing that the seeds do not, and would shrink what it finds.
ENGINE = (
    "timers", "ready", "listing", "jobs", "dead", "job", "handlers", "dependencies", "engine", "leases", "series", "facts", "gates", "edits", "clear", "why",
    "line", "bounds", "rate_limits", "actions", "fingerprint", "groups", "attempts", "logs", "find", "many", "bulk", "timing", "schedules", "schedule_limits", "schedule_misfires", "schedule_overlap", "schedule_lists", "cancel", "workers", "reruns", "auto_retries", "figures", "course", "moving", "audit", "configs", "marks", "timeline", "retrying", "audit_kept", "idle", "seeded", "kept",
)  # fmt: skip

TESTS = {
    "engine": [f"tests/engine/test_{name}.py" for name in ENGINE],
    "protocol": ["tests/protocol"],
    "runtime": [
        "tests/runtime", "tests/operations/test_memory_figures.py", "tests/ui/test_new_findings.py", "tests/ui/test_events.py", "tests/ui/test_errands.py", "tests/stream/test_gone.py", "tests/stream/test_reported.py", "tests/ui/test_cluster_findings.py",
    ],
    "storage": [
        "tests/ui/test_cluster.py", "tests/ui/test_cluster_findings.py", "tests/storage/test_memory.py",
        "tests/storage/test_making.py", "tests/storage/test_batch.py", "tests/storage/test_looks.py", "tests/storage/test_sqlite.py", "tests/storage/test_opening.py", "tests/storage/test_opening_twice.py", "tests/storage/test_held.py",
        "tests/storage/test_log.py", "tests/storage/test_damage.py", "tests/operations/test_backup.py", "tests/operations/test_restore.py",
        "tests/storage/test_copying.py", "tests/storage/test_copying_databases.py", "tests/storage/test_large_rows.py",
        "tests/engine/test_cancel.py", "tests/engine/test_kept.py", "tests/operations/test_doctor.py",
    ],
    "storage/postgres": [
        "tests/storage/test_postgres_store.py", "tests/storage/test_postgres_leading.py",
        "tests/storage/test_postgres_lost_tail.py", "tests/storage/test_postgres_schema.py",
        "tests/storage/test_postgres_inspect.py", "tests/storage/test_copying.py", "tests/storage/test_copying_databases.py",
        "tests/storage/test_postgres.py", "tests/storage/test_postgres_columns.py",
    ],
    "api": [
        "tests/stream/test_sessions.py", "tests/stream/test_event_streams.py", "tests/stream/test_undelivered.py",
        "tests/stream/test_slow_clients.py", "tests/stream/test_bulk.py", "tests/stream/test_roles.py",
        "tests/stream/test_weight.py", "tests/ui/test_access.py", "tests/stream/test_named_events.py",
        "tests/stream/test_reported.py", "tests/stream/test_hot.py", "tests/stream/test_hot_ends.py",
        "tests/operations/test_downloads.py", "tests/ui/test_events.py",
        "tests/runtime/test_bulk.py", "tests/runtime/test_large_reader.py", "tests/stream/test_gone.py", "tests/doors/test_by_number.py", "tests/stream/test_rounds.py",
    ],
    "config": ["tests/operations/test_spelling.py", "tests/operations/test_config.py", "tests/operations/test_unreachable_files.py"],
    "doors": ["tests/doors"],
    "pages": [
        "tests/ui/test_cluster.py", "tests/ui/test_cluster_findings.py", "tests/ui/test_findings.py",
        "tests/ui/test_findings_of_queues.py", "tests/ui/test_new_findings.py", "tests/ui/test_unsure.py", "tests/ui/test_actions.py",
        "tests/operations/test_actions.py", "tests/operations/test_findings.py", "tests/operations/test_findings_help.py",
        "tests/stream/test_first_slow_request.py",
    ],
    "cli": [
        "tests/operations/test_reading.py", "tests/operations/test_one_word.py", "tests/operations/test_sisters.py", "tests/operations/test_findings.py",
        "tests/ui/test_same_in_a_shell.py", "tests/operations/test_unreachable_files.py",
        "tests/operations/test_binds.py", "tests/client/test_failing_for_good.py", "tests/operations/test_downloads.py", "tests/operations/test_other_servers.py",
    ],
    "ui": [
        f"tests/ui/test_{name}.py"
        for name in (
            "payload", "access", "actions", "undo", "operating", "hostile", "screens", "incidents", "unsure",
            "same_in_a_shell", "cluster", "render", "finding_jobs", "events", "roles", "errands", "errors", "shown_in_part",
        )
    ]
    + ["tests/operations/test_findings.py"],
    "transports": [
        "tests/operations/test_opened_first.py",
        *(
            f"tests/stream/test_{name}.py"
            for name in (
                "hot", "hot_ends", "alone", "pollers", "heads", "short_texts", "sessions", "event_streams", "undelivered",
                "slow_clients", "gone", "bulk", "bytes", "brisk", "first_slow_request", "rounds", "stops", "away", "tls",
            )
        ),
        "tests/doors/test_room.py", "tests/doors/test_local.py", "tests/operations/test_binds.py",
    ],
    "client": [
        f"tests/client/test_{name}.py"
        for name in (
            "taken_back", "cancelled_pulls", "kit", "kit_asyncio", "orderly", "cancelling", "known_workers", "waiting", "says", "says_many", "traces",
            "failures", "sizes", "idle_pulls", "given", "names", "fate", "payloads", "run", "outcomes",
            "no_cost", "hostile", "strangers", "mute", "half_open", "spelled_addresses", "own_job", "middlemen", "failing_for_good",
        )
    ],
    "sync": ["tests/client/test_kit.py", "tests/client/test_strangers.py", "tests/client/test_mute.py"],
    "testing": ["tests/client/test_kit.py", "tests/client/test_kit_asyncio.py"],
    "trials/compat": ["tests/test_compat.py"],
}  # fmt: skip
"""Which tests notice a fault, by the directory it is in: those that are looked at first."""

NEAREST = {
    "beginning": ("by_number", "heads"),
    "known": ("versions", "by_number"),
    "frames": ("versions", "frames", "frame_streams", "frame_ends", "short_texts"),
    "answering": ("sent_at_once", "broken", "versions", "frames", "frame_ends", "frame_streams"),
    "asking": ("versions", "again", "frames", "frame_ends", "frame_streams", "idle_pulls"),
    "lane": ("frames", "frame_ends", "room"),
    "door": ("room",),
    "remote": ("remote", "hanging", "leader_gone"),
    "moves": ("engine", "leases", "series", "dead", "attempts", "logs", "cancel"),
    "holding": ("engine", "leases", "dead", "handlers", "attempts"),
    "push": ("engine", "handlers", "dependencies", "bulk", "bounds", "bulk_dependencies", "jobs"),
    "journal": ("bulk", "bulk_reports", "pressure", "reads", "journal_alone", "lingering"),
    "summons": ("lingering",),
    "turn": ("bulk", "journal_alone", "lingering", "distant"),
    "hub": ("hub", "reported"),
    "session": ("bulk", "weight", "roles", "reported", "sessions", "undelivered"),
    "core": ("core", "lingering", "waiting_pulls", "bulk", "bulk_reports", "bulk_dependencies"),
    "half": ("bulk", "bulk_dependencies"),
    "memory": ("memory", "memory_figures"),
    "new_errors": ("history", "new_errors"),
    "waiting": ("core", "waiting_pulls", "waiting", "handing", "quiet", "gone"),
    "hot": ("hot", "hot_ends", "alone"),
    "event_stream": ("event_streams",),
    "express": ("hot", "hot_ends", "rounds", "stops", "undelivered", "slow_clients", "gone"),
    "websocket": ("short_texts", "rounds", "bulk", "sessions", "slow_clients", "undelivered", "gone"),
    "listener": ("first_slow_request", "rounds", "stops", "room", "sessions", "slow_clients", "gone"),
    "docs": ("first_slow_request",),
    "rounds": ("rounds",),
    "tls": ("tls", "slow_clients", "remote"),
    "newcomers": ("rounds",),
    "costs": ("rounds",),
    "worker": ("says", "orderly", "sizes", "given", "names", "hostile"),
    "client": ("idle_pulls", "names", "no_cost"),
    "replies": ("faults", "tables"),
    "wire": ("bytes",),
    "app": ("names", "spelled_addresses"),
    "address": ("spelled_addresses",),
    "jobs": ("jobs", "no_cost"),
    "backend": ("given", "orderly", "hostile"),
    "pushing": ("fate", "strangers"),
    "upkeep": ("strangers",),
    "connection": ("middlemen",),
    "endings": ("hostile", "failing_for_good"),
    "link": ("half_open", "taken_back", "sizes", "payloads", "postgres_store", "local"),
    "options": ("engine", "handlers", "job", "said"),
    "report": ("handlers", "bulk"),
    "find": ("find", "many"),
    "deliver": ("engine", "leases", "handlers"),
    "queues": ("gates", "listing"),
    "manage": ("edits", "handlers"),
    "lookup": ("handlers", "dependencies", "engine"),
    "inspect": ("backup", "postgres_inspect"),
    "clock": ("clock_and_alarm",),
    "slices": ("many",),
    "rerunning": ("reruns",),
    "tokens": ("spelling",),
    "engine": ("engine", "leases", "series"),
    "dependents": ("dependencies", "engine"),
    "held": ("held",),
    "opening": ("opening", "opening_twice", "held"),
    "copying": ("copying", "copying_databases"),
    "findings": ("findings",),
    "act_findings": ("findings", "findings_help"),
    "queue_findings": ("findings_of_queues",),
    "ends": ("wait_job",),
    "rates": ("rate_limits",),
    "queue": ("engine", "listing"),
    "planner": ("schedules", "schedule_limits", "schedule_misfires", "schedule_overlap", "schedule_lists"),
    "before": ("actions",),
    "acts": ("actions",),
    "restoring": ("undo",),
    "filters": ("finding_jobs",),
    "putting": ("schedules", "schedule_limits", "schedule_misfires", "schedule_overlap", "schedule_lists"),
    "firing": ("schedules", "schedule_limits", "schedule_misfires", "schedule_overlap", "schedule_lists"),
    "cron": ("timing",),
    "zones": ("timing",),
    "store": ("sqlite", "held", "batch", "postgres_store", "postgres_lost_tail", "postgres_leading"),
    "standby": ("postgres_leading",),
    "announcer": ("postgres_store", "postgres_leading", "postgres_schema"),
    "leading": ("local",),
    "run": ("binds",),
    "sockets": ("binds", "opened_first", "local"),
    "errors": ("failing_for_good",),
    "bulk": ("large_reader", "gone", "bulk"),
    "terms": ("postgres_store", "postgres_leading", "postgres_lost_tail", "postgres_inspect", "postgres_schema"),
    "cluster": ("postgres_inspect", "cluster", "cluster_findings"),
    "statistics": ("cluster_findings", "statistics"),
    "tail": ("postgres_lost_tail",),
    "prometheus": ("cluster",),
    "0001_initial": ("postgres_store", "postgres_leading"),
    "arrays": ("postgres_columns", "postgres_schema"),
    "schema": ("postgres_schema",),
    "place": ("postgres_schema",),
}
"""The tests, without ``test_``, that find most faults in a file; of others those that are called as the file is."""

PLAIN = {"engine", "protocol"}
"""Directories whose tests need no pytest plugin and no setting of pyproject.toml; loading those costs a second a run."""
