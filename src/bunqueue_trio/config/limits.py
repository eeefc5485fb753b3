"""Numbers that limit something and that nobody needs to tune: rules of the contract, and bounds with their reason."""

SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024

# --- the engine --------------------------------------------------------------------------------
# The HTTP contract has no heartbeat and honest long jobs exist.
LEASE_MS = 300 * SECOND_MS
# A job that kills its worker four times will kill the next one.
STALLS_MAX = 3
# A worker that reconnects does so within seconds.
RESTART_GRACE_MS = 30 * SECOND_MS
# Exponential growth past an hour is giving up in disguise.
BACKOFF_MAX_MS = HOUR_MS
# Deadlines in one step: about 5 ms in which nobody else is served.
ADVANCE_MAX = 1000
# Expired in a row: nobody takes the runs of this series.
UNTAKEN_RUNS = 10
# Between its runs then; without it one push of 10,000 series keeps a core busy for ever.
UNTAKEN_PAUSE_MS = SECOND_MS
# Jobs named in dependsOn by one command: about 10 ms to look them up.
DEPENDENCIES_MAX = 10_000
# Jobs of a bulk push or ack that are dealt with in one step: 2 to 5 ms in which nobody else is served.
BULK_SLICE = 500
# Of payloads; a pull of many jobs ends here, and takes one job at least.
PULL_BATCH_BYTES = 8 * MIB
# Of payloads, by the pulls of many jobs that share a commit; beyond it each takes one job.
DELIVERED_BYTES = 16 * MIB
# Queues that are paused or limited; each is a fact on the disk and looked at when it is loaded.
GATES_MAX = 10_000
# Queues told of in one answer: about 2 ms, in which nobody else is served.
QUEUE_DETAILS_MAX = 200
# Known at once: 1 ms for the sweep, 1 to 8 KiB each; more of them work, and are not listed.
WORKERS_MAX = 10_000
# Six pulls that wait as long as those of our client do.
WORKER_SILENT_MS = 120 * SECOND_MS
# How often those that are silent are looked for.
WORKER_SWEEP_MS = 10 * SECOND_MS
# Of the names of its queues that a worker is remembered with.
WORKER_QUEUES_BYTES = 2000
# Jobs of one worker in a list.
WORKER_JOBS_SHOWN = 100
# Of what a worker says of each of them; the whole is with the job.
WORKER_MESSAGE_CHARS = 1000
# Of all texts in a list of workers, but for the last: 2 ms, and 10 where each is an escape.
WORKER_PAGE_CHARS = 250_000
# And of all of them in one page: about 2 ms, in which nobody else is served.
WORKER_JOBS_PAGE = 1000
# Kept of each queue that is told of: an hour by the minute, a week by the hour.
FIGURES_MINUTES, FIGURES_HOURS = 60, 168
# Told of in one minute, the busiest: 3 ms to add them up, 30 KB to write.
FIGURES_QUEUES = 250
# Minutes kept in all, if starts follow each other faster than minutes.
FIGURES_ROWS_MAX = 120
# Queues with defaults of their own, and as many with stalls of their own; each is a fact on the disk.
CONFIGS_MAX = 10_000
# Errors that are marked as fixed or muted: each is looked up in the groups of every queue of a picture.
MARKS_MAX = 200
# Under way at once: each is looked at once a second.
RERUNS_MAX = 20
# That have ended: 1 KB each, in memory and on the disk.
RERUNS_KEPT = 100
# Dead letters retried in one step: 1 to 3 ms in which nobody else is served.
RERUN_SLICE = 100
# As in the original.
AUTO_RETRY_INTERVAL_MS = 3_600_000
# The same.
AUTO_RETRIES = 3
# Dead letters looked at in one step: well under 1 ms in which nobody else is served.
AUTO_RETRY_SLICE = 20
# For each that a queue has retried by itself: 1,000 a second, over all queues.
AUTO_RETRY_MS = 1
# Seconds of its rate that may be under way at once, so that there is something left to stop.
RERUN_OPEN_S = 10
# Queues kept without a job in them; a million names must not stay for ever.
QUEUES_IDLE_MAX = 1024
# Each is looked at at a start, which takes 50 µs, and keeps 1 KB.
SCHEDULES_MAX = 20_000
# Of its payload, which stays in memory as long as the schedule.
SCHEDULE_DATA_BYTES = 256 * 1024
# A slot may be so late and still be in time: a restart takes less.
LATE_MS = 60 * SECOND_MS
# Deadlines that a slot costs as much as: 20 to 150 µs to find the next one and to make the job.
SLOT_CHORES = 30
# The last jobs of a schedule that it knows by itself, ended or not.
SLOT_JOBS_KEPT = 10
# Entries of slots left out, of each schedule; slots in a row for one reason are one entry.
SKIPS_KEPT = 20
# How far the slots to come are listed: 29 February on a Sunday is every 28 years.
UPCOMING_MS = 20 * 365 * DAY_MS

# --- the journal and the store -----------------------------------------------------------------
# A commit of this many rows (1 ms) costs less than two thread hops and GIL fights.
INLINE_ROWS_MAX = 128
# And of this many bytes of payloads: also about 1 ms of the event loop.
INLINE_BYTES_MAX = 256 * 1024
# A disk that took longer the last time gets a thread: it must not stop the event loop.
INLINE_S_MAX = 0.01
# For how long rows are written in a thread after some that took longer.
SLOW_DISK_S = 10
# Commits by the best of which the disk is judged: one that stumbles refuses nobody.
COMMITS_JUDGED = 4
# Large requests wait for the next batch when the disk needs this for this one; an answer takes two.
GATHER_S = 0.02
# Fraction of the limits allowed before the first commit has shown how fast the disk is.
GATHER_UNKNOWN = 0.02
# Jobs that may always gather; smaller commits say nothing of how fast large ones are.
GATHER_JOBS_MIN = 100
# Jobs of a committed batch that are looked at in one step, of which those that have ended leave memory: 1 ms.
FORGET_SLICE = 2000
# And on the fastest disk: 20 ms of the event loop for taking, writing and publishing them.
GATHER_JOBS_MAX = 4000
# For which a step of large work lets a large batch be written first: small changes wait for that one, and for the next.
WRITTEN_S = 0.1
# Jobs of a batch during whose commit large requests wait: its thread needs the interpreter, too.
WRITTEN_ALONE = 8000
# And bytes of requests.
GATHER_BYTES_MIN = MIB
# All new work is refused when the disk needs this long for what gathers already.
PENDING_S = 0.1
# What empties the queues waits this many times longer, twice, before it is refused: 2 s.
EMPTYING_TIMES = 10
# The part that may wait while nothing is known.
PENDING_UNKNOWN = 0.1
# And not below this many jobs.
PENDING_JOBS_MIN = 2000
# Questions of one command to a store that is a network away; what it tells of rarely changes meanwhile.
LOOKS_MAX = 8
# To a database; then it is tried again.
STORE_CONNECT_S = 5
# Of a database: then the connection is given up, and what was asked is asked again.
STORE_ANSWER_S = 10
# Which a large batch may take longer by.
STORE_BYTES_PER_S = MIB
# Between two words of a server that waits, for people who look who does.
WAITING_SAID_S = 5
# Between two looks of a leader at who waits, and at the database: six small questions.
CLUSTER_LOOK_S = 5
# Of whoever copies a database; a server waits for its end when that was killed.
COPY_LEASE_S = 30
# Jobs that a start reads from a database at once.
STORE_PAGE_ROWS = 5000
# Of the newest batches, which a database may come back without.
STORE_TAIL_BYTES = 32 * MIB
# How often within its lease a server says that it is alive.
BEATS_A_LEASE = 5
# In which whoever asks a server that waits has to ask, and to take the answer.
WAITING_ROOM_S = 10
# At once.
WAITING_ROOM_ASKING = 100
# In which two servers have to know each other, and a connection between them has to be open.
LINK_HANDSHAKE_S = 5
# At once; each takes a round trip, and others are closed.
LINK_HANDSHAKES_MAX = 256
# How often a server that waits looks whether it reaches the leader.
LINK_LOOK_S = 1
# After which a machine that says nothing is gone.
LINK_SILENT_S = 25
# How long a request waits for a leader that cannot be reached.
LINK_PATIENCE_S = 10
# Requests that wait so, 20 KiB each.
LINK_PATIENT_MAX = 1000
# How often a leader looks whether the doors of its machine answer.
DOOR_LOOK_S = 3
# Without an answer, before a door is ended: no step of one takes seconds, and a busy machine lets each run in that time.
DOOR_LOOKS = 5
# More of them while it starts, beside others that do.
DOOR_START_LOOKS = 15
# In which doors notice that their leader was killed, and let its addresses go.
DOORS_END_S = 1
# Requests that a door has sent and that are not answered; then it answers 503 itself.
ASKED_MAX = 50_000
# And their size.
ASKED_MAX_BYTES = 64 * MIB
# Of answers that a door does not read, before it is not read any more.
FRAMES_UNREAD_BYTES = 8 * MIB
# How long the rest of a request may be on its way before its connection is passed on as it is.
PIECES_S = 1
# How long a start waits for a database that does not answer yet: both may come up with the machine.
STORE_START_S = 30
# How often a server that waits asks whether it may lead.
STANDBY_S = 0.5
# How long an avalanche waits for a batch of its own before it goes on in one that is full.
ROOM_S = 1
# How long a large request waits in line for a batch before it is refused.
TURN_S = 2
# Waiting pulls that are answered in the step of the commit of their jobs: 40 µs each.
HANDED_MAX = 16
# Jobs given to waiting pulls in one step, but for the last pull, of 1,000 at most: 4 to 14 ms.
SERVED_MAX = 500
# By one task without letting others run: about 1 ms.
COMMITS_IN_A_ROW_MAX = 32
# A full disk rarely heals sooner; the first retry is nearly free.
COMMIT_RETRY_MIN_MS = 50
# How long after the disk is back the server may lag.
COMMIT_RETRY_MAX_MS = 500
# How long a request waits for a disk that refuses its commit, before it is told so.
GIVE_UP_S = 5
# How long a commit may take before lists do not wait for it: an fsync of a busy disk takes less.
LOOK_PATIENCE_MS = 1000
# How often the size of the write-ahead log is looked at; one connection fills 70 MB a second.
CHECKPOINT_MS = 200
# With less than 16 reserves left the disk is looked at each 50 ms: a log of 70 MB a second takes as much again in the file.
ROOM_LITTLE, ROOM_MS = 16, 50
# How often the log's file is cut while the disk is nearly full: commits wait for that, up to a second.
GIVE_BACK_MS = 10_000
# The log is copied back from here on; SQLite's own default is 4 MB.
CHECKPOINT_BYTES = 4 * MIB
# From here on with commits waiting for its end.
CHECKPOINT_FINISH_BYTES = 16 * MIB
# Ended jobs of which it is told how much a shorter retention would free: 2 ms beside the loop.
SAMPLE_POINTS = 200
# How often they are looked at.
SAMPLE_MS = 60 * SECOND_MS
# How often the retention limits are enforced.
PRUNE_MS = 2 * SECOND_MS
# And of payloads: 5 ms; a record larger than that goes alone.
PRUNE_BYTES = 4 * MIB
# Rows deleted in one transaction, which commits wait for: 0.7 ms measured.
PRUNE_ROWS = 500
# How often the event loop's lateness is sampled: 60 values a minute cost nothing.
LOOP_LAG_MS = SECOND_MS
# Anybody may ask for a collection or a census of the heap; one a second is made.
HEAP_LOOK_MS = SECOND_MS
# How often the room in the file and on its disk is looked at: 50 µs.
SHRINK_MS = SECOND_MS
# Given back in one transaction, which commits wait for: about a ms.
SHRINK_BYTES = 256 * 1024
# Between two of them: 2.5 MB a second, of which no commit notices anything.
SHRINK_PAUSE_MS = 100
# Stays in the file: what the next peak needs again.
SHRINK_SLACK_BYTES = 16 * MIB
# Of the disk are kept for acks and cancels, whose commits need room, too.
DISK_RESERVE_BYTES = 16 * MIB
# And of a small disk no more than a twentieth.
DISK_RESERVE_PART = 20
# The same refusal is told once in this time: the log may be on the same disk.
MAINTENANCE_TOLD_MS = 60 * SECOND_MS
# How often the system clock is compared with the server's: soon enough for who reads the log.
CLOCK_LOOK_S = 10
# So far apart is worth a warning; slewing by NTP moves 0.5 ms a second.
CLOCK_OFF_MS = 3 * SECOND_MS
# Looked at before others are served: 1 ms, some times that on a busy machine.
QUEUES_A_TURN = 250
# Of the heap counted before others are served: about 1 ms.
OBJECTS_A_TURN = 20_000
# A page of metrics, which looks at every queue, is made so often at most, for all who ask.
PICTURE_MS = SECOND_MS
# The time in which a supervised task may use its budget.
RESTARTS_WINDOW_MS = 60 * SECOND_MS

# --- what is noted of jobs and acts --------------------------------------------------------------
# Of a job, the last ones: what comes before says the same.
ATTEMPTS_KEPT = 20
# And their size; the newest one is kept however large.
ATTEMPTS_BYTES_KEPT = 256 * 1024
# Of the log of a job, the last ones: it is for a look, not an archive.
LOG_LINES_KEPT = 1000
# And their size; the records of 100,000 such jobs are 25 GB, not more.
LOG_BYTES_KEPT = 256 * 1024

# --- the self-audit ------------------------------------------------------------------------------
# Jobs looked at in one go: half a ms in which nobody else is served.
AUDIT_SLICE = 100
# Between two passes: a small queue need not be looked at all the time.
AUDIT_PAUSE_MS = 10 * SECOND_MS
# Of each payload that are read back and compared; the next row is not far then.
AUDIT_DATA_BYTES = 64 * 1024
# Kept for whoever asks; a broken structure could fill any list.
AUDIT_FINDINGS_MAX = 100

# --- readers of events --------------------------------------------------------------------------
# Events a reader may lag behind: about a second of a busy server.
READER_EVENTS_MAX = 10_000
# And their size; 1,000 stuck readers of large payloads are 4 GiB, not more.
READER_BYTES_MAX = 4 * MIB
# Events read from the store at once for a reader that came back: about 1 ms.
REPLAY_EVENTS = 500
# And their size, but for the last row: a reader that takes nothing holds so much.
REPLAY_BYTES = MIB
# Replies in line before a WebSocket is not read any more.
SESSION_REPLIES_MAX = 1000
# And their size; one more, however large, always fits.
SESSION_BYTES_MAX = 8 * MIB
# Of them sent at once: enough to keep the socket busy, little enough to hold.
SESSION_SEND_BYTES = 256 * 1024
# Waiting pulls of one WebSocket; each is a task.
SESSION_POLLS_MAX = 1000
# An idle stream says something; proxies cut silence after 30 to 60 s.
SSE_COMMENT_S = 15

# --- the process --------------------------------------------------------------------------------
# A full collection looks at every container, of which a growing backlog has large ones; measured at 28 to
# 190 ms with the defaults of 700, 10, 10. Plain requests leave no cycles behind, so it can be rare;
# Hypercorn's connections leave little: slow_lane.py takes them apart. WebSockets leave some: it must not be never, but after 4
# million new containers: it takes 16 ms with a million waiting jobs, whose lines are looked through. The smaller collections
# between look at 2,000 and 22,000 new ones: 1 and 4 ms amid bulk requests, and 8 and 29 with thresholds of 10,000, 20, 20.
GC_THRESHOLDS = (2_000, 10, 200)

# How long a thread waits for its turn to run while the event loop has work: one that commits, or reads. Beside a flood of bulk
# pushes a single one takes 261 ms at p99 with Python's 5 ms, and 137 with this; with 0.1 ms durable ones cost 10 % more.
SWITCH_S = 0.001

# The last deadlines: past them the process ends itself, whatever hangs.
# After a broken invariant: nothing that it still does can be trusted.
BROKEN_S = 2
# After a second signal: somebody waits at a terminal.
SECOND_SIGNAL_S = 0.9
# After the grace of a stop and the time for what is to be written.
LAST_S = 5

# --- the transports ----------------------------------------------------------------------------
# Clients remembered by the rate limiter; the idlest one makes room.
RATE_CLIENTS_MAX = 100_000
# Longest client address taken from a header: IPv6 with zone fits many times.
CLIENT_KEY_MAX = 128
# Request line and headers: what the strictest proxies in use allow.
HEADER_BYTES_MAX = 64 * 1024
# A client that speaks another protocol tries again and again; the log says it once in this time.
MSGPACK_TOLD_S = 60
# A request's headers must be in by then (slow loris).
HEADER_TIMEOUT_S = 30
# And its body.
BODY_TIMEOUT_S = 60
# For the answer to a client that says it will send nothing more.
HALF_CLOSED_S = 10
# A client that takes none of its answer for this long is gone.
WRITE_TIMEOUT_S = 60
# How long the end of an answer may still take when its request has been cancelled.
FINAL_SEND_S = 0.5
# Read and written at once: what a socket buffer holds.
RECEIVE_BYTES = 64 * 1024
# A WebSocket that says nothing is pinged so often.
PING_S = 20
# And may leave this many unanswered before it is gone.
PINGS_MISSED_MAX = 2
# How long what a refused client still sends is read, so that it sees its answer.
LINGER_S = 2
# Connections that are read so, 10 KiB each; above it they are closed at once.
LINGERING_MAX = 1000
# At a stop connections are still accepted: those in the kernel's line would be reset, not closed.
DRAIN_S = 0.05
# How long the other side may take to agree to the end of a WebSocket.
CLOSE_S = 2
# How long a goodbye may wait for replies to what came before it: a disk is given up after GIVE_UP_S.
GOODBYE_S = 10
# A job, or some: it never waits in line.
SMALL_BODY_BYTES = 4096
# A bulk push of 500 jobs: 3 ms of the event loop, one at a time.
LARGE_BODY_BYTES = 32 * 1024
# Parsed heads of requests: what the clients of a server send again and again.
HEADS_KEPT = 512
# And no longer ones: half a MiB of keys at most.
KEPT_HEAD_BYTES = 1024
# Served in one step of the hot loop, with one commit: 2 ms.
TURN_REQUESTS = 64
# And a step of large ones ends earlier; the one that is begun takes what it takes.
TURN_LONG_S = 0.002
# Written in the step of a commit: 2 ms; the tasks of their connections write the others.
ANSWERS_MAX = 256
# From one connection, one after the other: it is alone, and its own task is quicker.
LONE_REQUESTS = 16
# Of a connection that the hot loop could not serve, before it is asked again: most do as they did.
OWN_REQUESTS = 16
# Of one WebSocket before others are served: 0.3 ms, and there may be hundreds.
MESSAGES_A_TURN = 16
# Of a WebSocket parsed in one step; the smallest frames are 6 bytes, and 10 µs each.
FEED_BYTES = 4096
# The same in the slow lane, which takes 20 µs and gives nobody a turn in between.
SIP_BYTES = 1024
# Pongs of a client that reads none of them, before it is not read any more.
FRAMES_UNSENT_MAX = 64
# A connection idle for this long makes room for a new one when there are too many.
ROOM_IDLE_S = 2
# In which the leader says whether it has made room among what a door passes on.
ROOM_ASK_S = 1
# And this many of them at once, since looking for them costs a ms.
ROOM_CONNECTIONS = 32
# For the store, its log, threads and listeners; the rest may be connections.
DESCRIPTORS_KEPT = 64
# Before the end of the grace: for close frames and the last answers to get out.
STOP_MARGIN_S = 1.0
# How often late, silent and idle connections are looked for.
KEEPER_S = 1
# Connections waiting to be accepted; Linux caps it at somaxconn (4096).
BACKLOG = 1024
