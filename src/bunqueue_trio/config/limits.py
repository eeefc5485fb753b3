"""Numbers that limit something and that nobody needs to tune: rules of the contract, and bounds with their reason."""

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024

# --- the engine --------------------------------------------------------------------------------
# A job without a lease of its own has this one: the HTTP contract has no heartbeat, and honest long jobs exist.
LEASE_MS = 300 * SECOND_MS
# A job may stall this often: one that kills its worker four times will kill the next one.
STALLS_MAX = 3
# How long a job of a connection waits for its worker after a restart: one that reconnects does so within seconds.
RESTART_GRACE_MS = 30 * SECOND_MS
# The longest wait between two attempts: exponential growth past an hour is giving up in disguise.
BACKOFF_MAX_MS = HOUR_MS
# Deadlines that one step works off: about 5 ms in which nobody else is served.
ADVANCE_MAX = 1000
# Runs of a series that expire in a row before it slows down: nobody takes them.
UNTAKEN_RUNS = 10
# The pause between its runs from then on; without it one push of 10,000 series keeps a core busy for ever.
UNTAKEN_PAUSE_MS = SECOND_MS
# Jobs named in dependsOn by one command: about 20 ms to look them up, in several steps.
DEPENDENCIES_MAX = 10_000
# Jobs of a bulk push, with the names of others in them, or of a bulk ack that are dealt with in one step: 2 to 5 ms in which nobody else is served.
BULK_SLICE = 500
# Bytes of payloads at which a pull of many jobs ends; it takes one job at least.
PULL_BATCH_BYTES = 8 * MIB
# Bytes of payloads for all pulls of many jobs that share a commit; beyond it each takes one job.
DELIVERED_BYTES = 16 * MIB
# Queues that are paused or limited; each is a fact on the disk and looked at when it is loaded.
GATES_MAX = 10_000
# Queues told of in one answer: about 2 ms, in which nobody else is served.
QUEUE_DETAILS_MAX = 200
# Workers that are known at once: 1 ms for the sweep, 1 to 8 KiB each. Beyond it a worker works, and is not listed.
WORKERS_MAX = 10_000
# A worker that is silent for this long is gone: six waiting pulls of our client take as long.
WORKER_SILENT_MS = 120 * SECOND_MS
# How often silent workers are looked for.
WORKER_SWEEP_MS = 10 * SECOND_MS
# Bytes of the names of its queues that are kept of a worker.
WORKER_QUEUES_BYTES = 2000
# Jobs of one worker in a list.
WORKER_JOBS_SHOWN = 100
# Characters that a list shows of what a worker says of a job; the whole is with the job.
WORKER_MESSAGE_CHARS = 1000
# Characters of all texts in a page of workers, but for the last one: 2 ms, and 10 where each is an escape.
WORKER_PAGE_CHARS = 250_000
# Jobs of all workers in one page: about 2 ms, in which nobody else is served.
WORKER_JOBS_PAGE = 1000
# How many figures are kept of each queue: an hour by the minute, a week by the hour.
FIGURES_MINUTES, FIGURES_HOURS = 60, 168
# Queues that have figures in one minute, the busiest: 3 ms to add them up, 30 KB to write.
FIGURES_QUEUES = 250
# Minutes of figures that are kept in all, if starts follow each other faster than minutes.
FIGURES_ROWS_MAX = 120
# Minutes of the course of all queues are as far apart, or one: an hour has 120 at most, 5 KB.
COURSE_APART_MS = 30 * SECOND_MS
# Acts on many jobs that go on by themselves at once: each is a task, and each of their steps holds others up for 1 to 3 ms.
ERRANDS_MAX = 10
# Ended ones of which somebody may still want to know: 500 bytes each.
ERRANDS_KEPT = 50
# Starts and stops of servers that are kept: 150 bytes each.
LIVES_KEPT = 100
# Queues with defaults of their own, and as many with stalls of their own; each is a fact on the disk.
CONFIGS_MAX = 10_000
# Errors that are marked as fixed or muted: each is looked up in the groups of every queue of a picture.
MARKS_MAX = 200
# Reruns under way at once: each is looked at once a second.
RERUNS_MAX = 20
# Ended reruns that are kept: 1 KB each, in memory and on the disk.
RERUNS_KEPT = 100
# Dead letters retried in one step: 1 to 3 ms in which nobody else is served.
RERUN_SLICE = 100
# The first wait before a dead letter retries by itself, as in the original.
AUTO_RETRY_INTERVAL_MS = 3_600_000
# How often a dead letter retries by itself, as in the original.
AUTO_RETRIES = 3
# Dead letters looked at in one step: well under 1 ms in which nobody else is served.
AUTO_RETRY_SLICE = 20
# How long the next one waits after one that has retried by itself: 1,000 a second, over all queues.
AUTO_RETRY_MS = 1
# Seconds of the rate of a rerun that may be under way at once, so that there is something left to stop.
RERUN_OPEN_S = 10
# Queues kept without a job in them; a million names must not stay for ever.
QUEUES_IDLE_MAX = 1024
# Schedules: a start looks at each, which takes 50 µs, and each keeps 1 KB in memory.
SCHEDULES_MAX = 20_000
# Bytes of the payload of a schedule, which stays in memory as long as the schedule.
SCHEDULE_DATA_BYTES = 256 * 1024
# A slot that is late by less is in time: a restart takes less.
LATE_MS = 60 * SECOND_MS
# Deadlines that a slot costs as much as: 20 to 150 µs to find the next slot and to make the job.
SLOT_CHORES = 30
# Schedules that one look at an archive that is a network away is for: as many as a step can let run.
FIRED_TOGETHER = ADVANCE_MAX // SLOT_CHORES
# The newest jobs of a schedule that it knows by itself, ended or not.
SLOT_JOBS_KEPT = 10
# Entries of slots left out that are kept of each schedule; slots in a row for one reason are one entry.
SKIPS_KEPT = 20
# How far the slots to come are listed: 29 February on a Sunday is every 28 years.
UPCOMING_MS = 20 * 365 * DAY_MS

# --- the journal and the store -----------------------------------------------------------------
# Rows that the event loop commits in one step: 1 ms, less than two thread hops and a fight for the GIL.
INLINE_ROWS_MAX = 128
# Bytes of payloads that it commits so: also about 1 ms of the event loop.
INLINE_BYTES_MAX = 256 * 1024
# A disk that took longer for the last commit gets a thread: it must not stop the event loop.
INLINE_S_MAX = 0.01
# For how long rows are written in a thread after a commit that took longer than INLINE_S_MAX.
SLOW_DISK_S = 10
# The disk is judged by the best of this many commits: one that stumbles refuses nobody.
COMMITS_JUDGED = 4
# Large requests wait for the next batch when the disk needs this long for the one that gathers; an answer takes two.
GATHER_S = 0.02
# Fraction of the limits allowed before the first commit has shown how fast the disk is.
GATHER_UNKNOWN = 0.02
# Jobs that may always gather; smaller commits say nothing of how fast large ones are.
GATHER_JOBS_MIN = 100
# Jobs of a committed batch that are looked at in one step, of which those that have ended leave memory: 1 ms.
FORGET_SLICE = 2000
# Jobs that may gather on the fastest disk: 20 ms of the event loop for taking, writing and publishing them.
GATHER_JOBS_MAX = 4000
# How long a step of large work lets a large batch be written first: small changes wait for that one, and for the next.
WRITTEN_S = 0.1
# Large requests wait while a batch of this many jobs is committed: its thread needs the interpreter, too.
WRITTEN_ALONE = 8000
# Bytes of requests that may always gather.
GATHER_BYTES_MIN = MIB
# All new work is refused when the disk needs this long for what gathers already.
PENDING_S = 0.1
# What empties the queues waits this many times longer, twice, before it is refused: 2 s.
EMPTYING_TIMES = 10
# The part of the limits that may wait while nothing is known of the disk.
PENDING_UNKNOWN = 0.1
# Jobs that may always wait.
PENDING_JOBS_MIN = 2000
# Questions of one command to a store that is a network away, of which the page of a list has about 40, and how often their answers may
# have become old before all are there: that is rare.
LOOKS_MAX = 500
REPEATS_MAX = 12
# How long a connection to a database may take; then it is tried again.
STORE_CONNECT_S = 5
# How long a database may take for an answer; then the connection is given up, and the question asked again.
STORE_ANSWER_S = 10
# A large batch has a second more for each of these bytes.
STORE_BYTES_PER_S = MIB
# How often a server that waits for the lead says so in the database.
WAITING_SAID_S = 5
# How often a leader looks at who waits, and at the database: six small questions.
CLUSTER_LOOK_S = 5
# The lease of whoever copies a database; a server waits for its end when that process was killed.
COPY_LEASE_S = 30
# Jobs that a start reads from a database at once.
STORE_PAGE_ROWS = 5000
# Rows of a batch that are made in the event loop for a database: 0.5 ms; for more a thread does it.
STORE_INLINE_ROWS_MAX = 500
# Bytes of the newest batches that are remembered: a database may come back without them.
STORE_TAIL_BYTES = 32 * MIB
# How often within its lease a server says that it is alive.
BEATS_A_LEASE = 6
# How long whoever asks a server that waits has to send its question, and to take the answer.
WAITING_ROOM_S = 10
# How many may ask a server that waits at once.
WAITING_ROOM_ASKING = 100
# How long two servers have until they know each other and a connection between them is open.
LINK_HANDSHAKE_S = 5
# Handshakes under way at once: each takes a round trip, and others are closed.
LINK_HANDSHAKES_MAX = 256
# How often a server that waits looks whether it reaches the leader.
LINK_LOOK_S = 1
# A machine that says nothing for this long is gone.
LINK_SILENT_S = 25
# How long a request waits for a leader that cannot be reached.
LINK_PATIENCE_S = 10
# Requests that wait for a leader at once, 20 KiB each.
LINK_PATIENT_MAX = 1000
# How often a leader looks whether the doors of its machine answer.
DOOR_LOOK_S = 3
# Looks without an answer before a door is ended: no step of one takes seconds, and a busy machine lets each run in that time.
DOOR_LOOKS = 5
# Looks without an answer that a door has at its start, beside others that start.
DOOR_START_LOOKS = 15
# The pauses before a door is started again that could not be; the last one for as long as it takes.
DOOR_STARTS_S = (0.1, 0.4, 1.6, 5.0, 10.0)
# How long doors may take to notice that their leader was killed, and to let its addresses go.
DOORS_END_S = 1
# Requests that a door has sent and that are not answered; beyond it the door answers 503 itself.
ASKED_MAX = 50_000
# Bytes of these requests.
ASKED_MAX_BYTES = 64 * MIB
# Bytes of answers that a door leaves unread before the leader reads no more from it.
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
# Commits of one task before it lets others run: about 1 ms.
COMMITS_IN_A_ROW_MAX = 32
# How long the commit of deliveries, which are answered already, lingers for one that somebody waits for.
COMMIT_LINGER_S = 0.002
# The first wait before a refused commit is tried again: a full disk rarely heals sooner, and a try is nearly free.
COMMIT_RETRY_MIN_MS = 50
# The longest wait: how long after the disk is back the server may lag.
COMMIT_RETRY_MAX_MS = 500
# How long a request waits for a disk that refuses its commit, before it gets an error.
GIVE_UP_S = 5
# How long a commit may take before lists do not wait for it: an fsync of a busy disk takes less.
LOOK_PATIENCE_MS = 1000
# How often the size of the write-ahead log is looked at; one connection fills 70 MB a second.
CHECKPOINT_MS = 200
# With less room than this many reserves the disk is looked at every 50 ms: a log of 70 MB a second takes as much again in the file.
ROOM_LITTLE, ROOM_MS = 16, 50
# How often the log's file is cut while the disk is nearly full: commits wait for that, up to a second.
GIVE_BACK_MS = 10_000
# The log is copied into the file from this size on; SQLite's own default is 4 MB.
CHECKPOINT_BYTES = 4 * MIB
# From this size on commits wait for the end of that.
CHECKPOINT_FINISH_BYTES = 16 * MIB
# Ended jobs that are looked at to say how much a shorter retention would free: 2 ms beside the loop.
SAMPLE_POINTS = 200
# How often they are looked at.
SAMPLE_MS = 60 * SECOND_MS
# How often the retention limits are enforced.
PRUNE_MS = 2 * SECOND_MS
# Bytes of payloads deleted in one transaction: 5 ms; a larger record goes alone.
PRUNE_BYTES = 4 * MIB
# Queues with bounds of their own that one step looks into for dead letters: with a database a round trip each, for which commits and the lease wait.
QUEUES_PRUNED = 20
# Rows deleted in one transaction, which commits wait for: 0.7 ms measured.
PRUNE_ROWS = 500
# How often the event loop's lateness is sampled: 60 values a minute cost nothing.
LOOP_LAG_MS = SECOND_MS
# Anybody may ask for a collection or a census of the heap; one a second is made.
HEAP_LOOK_MS = SECOND_MS
# How often the room in the file and on its disk is looked at: 50 µs.
SHRINK_MS = SECOND_MS
# Bytes given back to the disk in one transaction, which commits wait for: about 1 ms.
SHRINK_BYTES = 256 * 1024
# The pause between two of them: 2.5 MB a second, of which no commit notices anything.
SHRINK_PAUSE_MS = 100
# Free bytes that stay in the file: the next peak needs them again.
SHRINK_SLACK_BYTES = 16 * MIB
# Bytes of the disk that are kept for acks and cancels, whose commits need room, too, unless DISK_RESERVE_BYTES says otherwise.
DISK_RESERVE_BYTES = 16 * MIB
# Of a small disk a twentieth is kept, but no less than the log may take, and its content again in the file.
DISK_RESERVE_PART, DISK_RESERVE_MIN_BYTES = 20, 2 * CHECKPOINT_BYTES
# The same refusal is logged once in this time: the log may be on the same disk.
MAINTENANCE_TOLD_MS = 60 * SECOND_MS
# When the tables are looked over for damage, in s: when those who come back after a start are served; and then daily.
LOOK_OVER_AFTER_S, LOOK_OVER_EVERY_S = 2, 24 * 3600
# When those that could not be looked at are tried again, in s: a file that was away, or a disk that did not read, may be back. One try costs next to nothing then.
LOOK_AGAIN_S = 30
# How long one table may take: meanwhile the log cannot begin anew. Here that is enough for about 5 GB in the page cache. And the pause behind it, for the log to do so.
LOOK_OVER_S, LOOK_OVER_PAUSE_S = 5, 0.5
# How often the system clock is compared with the server's: soon enough for whoever reads the log.
CLOCK_LOOK_S = 10
# A difference of the clocks that is worth a warning; slewing by NTP moves 0.5 ms a second.
CLOCK_OFF_MS = 3 * SECOND_MS
# Queues looked at before others are served: 1 ms, some times that on a busy machine.
QUEUES_A_TURN = 250
# Queues of which the fullest are looked for before others are served: 2 to 3 ms.
QUEUES_RANKED = 4000
# Objects of the heap counted before others are served: about 1 ms.
OBJECTS_A_TURN = 20_000
# Blocks of Python's allocator, of which some are objects that can be listed: to list 500,000 of them, and let go of the list, takes 8 and
# 3 ms, each in one step, and 27 and 11 with three times as many.
BLOCKS_LISTED_MAX = 700_000
# How often a page of metrics, which looks at every queue, is made at most, for all who ask.
PICTURE_MS = SECOND_MS
# The time in which a supervised task may use its budget.
RESTARTS_WINDOW_MS = 60 * SECOND_MS

# Jobs of a queue that have completed before it is known how long one usually takes.
USUAL_MIN = 10

# --- what is noted of jobs and acts --------------------------------------------------------------
# Failed attempts that are kept of a job, the newest: what comes before says the same.
ATTEMPTS_KEPT = 20
# Bytes of these attempts; the newest one is kept however large.
ATTEMPTS_BYTES_KEPT = 256 * 1024
# Lines of its log that are kept of a job, the newest: it is for a look, not an archive.
LOG_LINES_KEPT = 1000
# Bytes of these lines; the records of 100,000 such jobs are 25 GB, not more.
LOG_BYTES_KEPT = 256 * 1024

# --- the self-audit ------------------------------------------------------------------------------
# Jobs that the self-audit looks at in one go: half a ms in which nobody else is served.
AUDIT_SLICE = 100
# Dependencies of these that it looks up before others are served: a job has up to 1,000, each of which takes 0.5 µs.
AUDIT_DEPENDENCIES = 2000
# The pause between two passes: a small queue need not be looked at all the time.
AUDIT_PAUSE_MS = 10 * SECOND_MS
# Bytes of each payload that are read back and compared; the next row is not far then.
AUDIT_DATA_BYTES = 64 * 1024
# Faults that are kept for whoever asks; a broken structure could fill any list.
AUDIT_FINDINGS_MAX = 100

# --- readers of events --------------------------------------------------------------------------
# Events a reader may lag behind: about a second of a busy server.
READER_EVENTS_MAX = 10_000
# Bytes of these events; 1,000 stuck readers of large payloads are 4 GiB, not more.
READER_BYTES_MAX = 4 * MIB
# Events read from the store at once for a reader that came back: about 1 ms.
REPLAY_EVENTS = 500
# Bytes of these events, but for the last row: a reader that takes nothing holds that much.
REPLAY_BYTES = MIB
# Replies in line before a WebSocket is not read any more.
SESSION_REPLIES_MAX = 1000
# Bytes of these replies; one more, however large, always fits.
SESSION_BYTES_MAX = 8 * MIB
# Bytes of replies sent at once: enough to keep the socket busy, little enough to hold.
SESSION_SEND_BYTES = 256 * 1024
# Waiting pulls of one WebSocket; each is a task.
SESSION_POLLS_MAX = 1000
# How often an idle stream says something; proxies cut silence after 30 to 60 s.
SSE_COMMENT_S = 15

# --- the process --------------------------------------------------------------------------------
# A full collection looks at every container, of which a growing backlog has large ones; measured at 28 to
# 190 ms with the defaults of 700, 10, 10. Plain requests leave no cycles behind, so it can be rare;
# Hypercorn's connections leave little: slow_lane.py takes them apart. WebSockets leave some: it must not be never, but after 4
# million new containers: it takes 16 ms with a million waiting jobs, whose lines are looked through. The smaller collections
# between look at 2,000 and 22,000 new ones: 1 and 4 ms amid bulk requests, and 8 and 29 with thresholds of 10,000, 20, 20.
GC_THRESHOLDS = (2_000, 10, 200)

# What the C heap keeps at its end for what comes next, and up to which size a block is taken from it, not from the kernel (as much as
# glibc lets one say): some copies of the largest payload, each of which would take 5 ms of clearing by the kernel.
HEAP_KEPT_BYTES = 64 * MIB
HEAP_BLOCK_BYTES = 32 * MIB

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
# How often the log says that a client speaks another protocol: it tries again and again.
MSGPACK_TOLD_S = 60
# How long a request's headers may take (slow loris).
HEADER_TIMEOUT_S = 30
# How long its body may take.
BODY_TIMEOUT_S = 60
# How long the answer may take to a client that says it will send nothing more.
HALF_CLOSED_S = 10
# A client that takes none of its answer for this long is gone.
WRITE_TIMEOUT_S = 60
# How long the end of an answer may still take when its request has been cancelled.
FINAL_SEND_S = 0.5
# Bytes read and written at once: what a socket buffer holds.
RECEIVE_BYTES = 64 * 1024
# Records of TLS that are worked off in one step: 20 µs for each change of keys, and its answer. Large requests have 16 KiB in one.
RECORDS_A_STEP = 16
# Records without data, beyond those that had some, before a connection is ended: clients have two or three in a day.
RECORDS_WITHOUT_DATA_MAX = 32
# Handshakes that go on in one round of all tasks: 2 ms each with a key of 2048 bits. A newcomer's request takes about six rounds.
HANDSHAKES_A_ROUND = 4
# Bytes encrypted in one step: 0.2 ms, and OpenSSL holds them twice until they are sent.
TLS_SEND_BYTES = 64 * 1024
# How often a WebSocket that says nothing is pinged.
PING_S = 20
# Pings that it may leave unanswered before it is gone.
PINGS_MISSED_MAX = 2
# How long what a refused client still sends is read, so that it sees its answer.
LINGER_S = 2
# Refused connections that are read so, 10 KiB each; beyond it they are closed at once.
LINGERING_MAX = 1000
# At a stop connections are still accepted: those in the kernel's line would be reset, not closed.
DRAIN_S = 0.05
# How long the other side may take to agree to the end of a WebSocket.
CLOSE_S = 2
# How long a goodbye may wait for replies to what came before it: a disk is given up after GIVE_UP_S.
GOODBYE_S = 10
# A body of this size, a job or some, never waits in line.
SMALL_BODY_BYTES = 4096
# A body of this size, a bulk push of 500 jobs, takes 3 ms of the event loop; one is worked on at a time.
LARGE_BODY_BYTES = 32 * 1024
# Parsed heads of requests that are kept: what the clients of a server send again and again.
HEADS_KEPT = 512
# Those of the express lane, with their request lines: as many queues may be pushed to in turn, and each push costs 4 µs less; 1 KB each.
WHOLE_HEADS_KEPT = 1200
# Others that come before these are forgotten: with more queues than that none would come again in time, and keeping them costs 1 µs each.
WHOLE_HEADS_MISSED = 20_000
# Bytes of such a head; longer ones are not kept: half a MiB of keys at most.
KEPT_HEAD_BYTES = 1024
# Requests served in one step of the hot loop, with one commit: 2 ms.
TURN_REQUESTS = 64
# Clients that hang up, in such a step, and as many of those that wait: the end of each wait and connection takes some tenths of a ms.
ENDS_A_TURN = 16
# A step of requests, or of messages of a WebSocket, ends after this time, and so does what connections begin in one round of all tasks; what is begun takes what it takes.
TURN_LONG_S = 0.002
# Answers written in the step of a commit: 2 ms; the tasks of their connections write the others.
ANSWERS_MAX = 256
# Requests that come one after the other from one connection: it is alone, and its own task is quicker.
LONE_REQUESTS = 16
# Requests of a connection that the hot loop could not serve, before it is asked again: most do as they did.
OWN_REQUESTS = 16
# Commands that the tasks of connections begin in one round of all tasks, beside the hot loop's: 5 ms. A newcomer's takes about six rounds.
COMMANDS_A_ROUND = 64
# Pages, the same: about 1 ms each, with the framework.
PAGES_A_ROUND = 8
# Bytes of a WebSocket parsed in one step; the smallest frames are 6 bytes, and 10 µs each.
FEED_BYTES = 4096
# The same in the slow lane, which takes 20 µs and gives nobody a turn in between.
SIP_BYTES = 1024
# Pongs that wait for a client that reads none of them, before the server reads no more from it.
FRAMES_UNSENT_MAX = 64
# A connection idle for this long makes room for a new one when there are too many.
ROOM_IDLE_S = 2
# How long the leader has to say whether it has made room among the connections that a door passes on.
ROOM_ASK_S = 1
# Connections that make room at once, since looking for them costs 1 ms.
ROOM_CONNECTIONS = 32
# Descriptors for the store, its log, threads and listeners; the rest may be connections.
DESCRIPTORS_KEPT = 64
# How long before the end of the grace connections are closed: for close frames and the last answers to get out.
STOP_MARGIN_S = 1.0
# How often late, silent and idle connections are looked for.
KEEPER_S = 1
# A server that looks for them so much too late was frozen, or its machine was: it reads first what they have said meanwhile.
AWAY_S = 5
# Connections accepted in one step: 4 ms.
ACCEPTS_MAX = 32
# Connections waiting to be accepted; Linux caps it at somaxconn (4096).
BACKLOG = 1024
