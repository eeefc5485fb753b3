"""Numbers that limit something and that nobody needs to tune: rules of the contract, and bounds with their reason."""

SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
DAY_MS = 24 * HOUR_MS
MIB = 1024 * 1024

# --- the engine --------------------------------------------------------------------------------
LEASE_MS = 300 * SECOND_MS  # the HTTP contract has no heartbeat and honest long jobs exist
STALLS_MAX = 3  # a job that kills its worker four times will kill the next one
RESTART_GRACE_MS = 30 * SECOND_MS  # a worker that reconnects does so within seconds
BACKOFF_MAX_MS = HOUR_MS  # exponential growth past an hour is giving up in disguise
ADVANCE_MAX = 1000  # deadlines in one step: about 5 ms in which nobody else is served
UNTAKEN_RUNS = 10  # expired in a row: nobody takes the runs of this series
UNTAKEN_PAUSE_MS = SECOND_MS  # between its runs then; without it one push of 10,000 series keeps a core busy for ever
DEPENDENCIES_MAX = 10_000  # jobs named in dependsOn by one command: about 10 ms to look them up
BULK_SLICE = 500  # jobs of a bulk push or ack that are dealt with in one step: 2 to 5 ms in which nobody else is served
PULL_BATCH_BYTES = 8 * MIB  # of payloads; a pull of many jobs ends here, and takes one job at least
DELIVERED_BYTES = 16 * MIB  # of payloads, by the pulls of many jobs that share a commit; beyond it each takes one job
GATES_MAX = 10_000  # queues that are paused or limited; each is a fact on the disk and looked at when it is loaded
QUEUE_DETAILS_MAX = 200  # queues told of in one answer: about 2 ms, in which nobody else is served
WORKERS_MAX = 10_000  # known at once: 1 ms for the sweep, 1 to 8 KiB each; more of them work, and are not listed
WORKER_SILENT_MS = 120 * SECOND_MS  # six pulls that wait as long as those of our client do
WORKER_SWEEP_MS = 10 * SECOND_MS  # how often those that are silent are looked for
WORKER_QUEUES_BYTES = 2000  # of the names of its queues that a worker is remembered with
WORKER_JOBS_SHOWN = 100  # jobs of one worker in a list
WORKER_MESSAGE_CHARS = 1000  # of what a worker says of each of them; the whole is with the job
WORKER_PAGE_CHARS = 250_000  # of all texts in a list of workers, but for the last: 2 ms, and 10 where each is an escape
WORKER_JOBS_PAGE = 1000  # and of all of them in one page: about 2 ms, in which nobody else is served
FIGURES_MINUTES, FIGURES_HOURS = (
    60,
    168,
)  # kept of each queue that is told of: an hour by the minute, a week by the hour
FIGURES_QUEUES = 250  # told of in one minute, the busiest: 3 ms to add them up, 30 KB to write
FIGURES_ROWS_MAX = 120  # minutes kept in all, if starts follow each other faster than minutes
CONFIGS_MAX = (
    10_000  # queues with defaults of their own, and as many with stalls of their own; each is a fact on the disk
)
MARKS_MAX = 200  # errors that are marked as fixed or muted: each is looked up in the groups of every queue of a picture
RERUNS_MAX = 20  # under way at once: each is looked at once a second
RERUNS_KEPT = 100  # that have ended: 1 KB each, in memory and on the disk
RERUN_SLICE = 100  # dead letters retried in one step: 1 to 3 ms in which nobody else is served
AUTO_RETRY_INTERVAL_MS = 3_600_000  # as in the original
AUTO_RETRIES = 3  # the same
AUTO_RETRY_SLICE = 20  # dead letters looked at in one step: well under 1 ms in which nobody else is served
AUTO_RETRY_MS = 1  # for each that a queue has retried by itself: 1,000 a second, over all queues
RERUN_OPEN_S = 10  # seconds of its rate that may be under way at once, so that there is something left to stop
QUEUES_IDLE_MAX = 1024  # queues kept without a job in them; a million names must not stay for ever
SCHEDULES_MAX = 20_000  # each is looked at at a start, which takes 50 µs, and keeps 1 KB
SCHEDULE_DATA_BYTES = 256 * 1024  # of its payload, which stays in memory as long as the schedule
LATE_MS = 60 * SECOND_MS  # a slot may be so late and still be in time: a restart takes less
SLOT_CHORES = 30  # deadlines that a slot costs as much as: 20 to 150 µs to find the next one and to make the job
SLOT_JOBS_KEPT = 10  # the last jobs of a schedule that it knows by itself, ended or not
SKIPS_KEPT = 20  # entries of slots left out, of each schedule; slots in a row for one reason are one entry
UPCOMING_MS = 20 * 365 * DAY_MS  # how far the slots to come are listed: 29 February on a Sunday is every 28 years

# --- the journal and the store -----------------------------------------------------------------
INLINE_ROWS_MAX = 128  # a commit of this many rows (1 ms) costs less than two thread hops and GIL fights
INLINE_BYTES_MAX = 256 * 1024  # and of this many bytes of payloads: also about 1 ms of the event loop
INLINE_S_MAX = 0.01  # a disk that took longer the last time gets a thread: it must not stop the event loop
SLOW_DISK_S = 10  # for how long rows are written in a thread after some that took longer
COMMITS_JUDGED = 4  # commits by the best of which the disk is judged: one that stumbles refuses nobody
GATHER_S = 0.02  # large requests wait for the next batch when the disk needs this for this one; an answer takes two
GATHER_UNKNOWN = 0.02  # fraction of the limits allowed before the first commit has shown how fast the disk is
GATHER_JOBS_MIN = 100  # jobs that may always gather; smaller commits say nothing of how fast large ones are
FORGET_SLICE = (
    2000  # jobs of a committed batch that are looked at in one step, of which those that have ended leave memory: 1 ms
)
GATHER_JOBS_MAX = 4000  # and on the fastest disk: 20 ms of the event loop for taking, writing and publishing them
WRITTEN_S = 0.1  # for which a step of large work lets a large batch be written first: small changes wait for that one, and for the next
WRITTEN_ALONE = 8000  # jobs of a batch during whose commit large requests wait: its thread needs the interpreter, too
GATHER_BYTES_MIN = MIB  # and bytes of requests
PENDING_S = 0.1  # all new work is refused when the disk needs this long for what gathers already
EMPTYING_TIMES = 10  # what empties the queues waits this many times longer, twice, before it is refused: 2 s
PENDING_UNKNOWN = 0.1  # the part that may wait while nothing is known
PENDING_JOBS_MIN = 2000  # and not below this many jobs
LOOKS_MAX = 8  # questions of one command to a store that is a network away; what it tells of rarely changes meanwhile
STORE_CONNECT_S = 5  # to a database; then it is tried again
STORE_ANSWER_S = 10  # of a database: then the connection is given up, and what was asked is asked again
STORE_BYTES_PER_S = MIB  # which a large batch may take longer by
WAITING_SAID_S = 5  # between two words of a server that waits, for people who look who does
CLUSTER_LOOK_S = 5  # between two looks of a leader at who waits, and at the database: six small questions
COPY_LEASE_S = 30  # of whoever copies a database; a server waits for its end when that was killed
STORE_PAGE_ROWS = 5000  # jobs that a start reads from a database at once
STORE_TAIL_BYTES = 32 * MIB  # of the newest batches, which a database may come back without
BEATS_A_LEASE = 5  # how often within its lease a server says that it is alive
WAITING_ROOM_S = 10  # in which whoever asks a server that waits has to ask, and to take the answer
WAITING_ROOM_ASKING = 100  # at once
LINK_HANDSHAKE_S = 5  # in which two servers have to know each other, and a connection between them has to be open
LINK_HANDSHAKES_MAX = 256  # at once; each takes a round trip, and others are closed
LINK_LOOK_S = 1  # how often a server that waits looks whether it reaches the leader
LINK_SILENT_S = 25  # after which a machine that says nothing is gone
LINK_PATIENCE_S = 10  # how long a request waits for a leader that cannot be reached
LINK_PATIENT_MAX = 1000  # requests that wait so, 20 KiB each
DOOR_LOOK_S = 3  # how often a leader looks whether the doors of its machine answer
DOOR_LOOKS = 5  # without an answer, before a door is ended: no step of one takes seconds, and a busy machine lets each run in that time
DOOR_START_LOOKS = 15  # more of them while it starts, beside others that do
DOORS_END_S = 1  # in which doors notice that their leader was killed, and let its addresses go
ASKED_MAX = 50_000  # requests that a door has sent and that are not answered; then it answers 503 itself
ASKED_MAX_BYTES = 64 * MIB  # and their size
FRAMES_UNREAD_BYTES = 8 * MIB  # of answers that a door does not read, before it is not read any more
PIECES_S = 1  # how long the rest of a request may be on its way before its connection is passed on as it is
STORE_START_S = 30  # how long a start waits for a database that does not answer yet: both may come up with the machine
STANDBY_S = 0.5  # how often a server that waits asks whether it may lead
ROOM_S = 1  # how long an avalanche waits for a batch of its own before it goes on in one that is full
TURN_S = 2  # how long a large request waits in line for a batch before it is refused
SERVED_MAX = 500  # jobs given to waiting pulls in one step, but for the last pull, of 1,000 at most: 4 to 14 ms
COMMITS_IN_A_ROW_MAX = 32  # by one task without letting others run: about 1 ms
COMMIT_RETRY_MIN_MS = 50  # a full disk rarely heals sooner; the first retry is nearly free
COMMIT_RETRY_MAX_MS = 500  # how long after the disk is back the server may lag
GIVE_UP_S = 5  # how long a request waits for a disk that refuses its commit, before it is told so
LOOK_PATIENCE_MS = (
    1000  # how long a commit may take before lists do not wait for it: an fsync of a busy disk takes less
)
CHECKPOINT_MS = 200  # how often the size of the write-ahead log is looked at; one connection fills 70 MB a second
# With less than 16 reserves left the disk is looked at each 50 ms: a log of 70 MB a second takes as much again in the file.
ROOM_LITTLE, ROOM_MS = 16, 50
# How often the log's file is cut while the disk is nearly full: commits wait for that, up to a second.
GIVE_BACK_MS = 10_000
CHECKPOINT_BYTES = 4 * MIB  # the log is copied back from here on; SQLite's own default is 4 MB
CHECKPOINT_FINISH_BYTES = 16 * MIB  # from here on with commits waiting for its end
SAMPLE_POINTS = 200  # ended jobs of which it is told how much a shorter retention would free: 2 ms beside the loop
SAMPLE_MS = 60 * SECOND_MS  # how often they are looked at
PRUNE_MS = 2 * SECOND_MS  # how often the retention limits are enforced
PRUNE_BYTES = 4 * MIB  # and of payloads: 5 ms; a record larger than that goes alone
PRUNE_ROWS = 500  # rows deleted in one transaction, which commits wait for: 0.7 ms measured
LOOP_LAG_MS = SECOND_MS  # how often the event loop's lateness is sampled: 60 values a minute cost nothing
HEAP_LOOK_MS = SECOND_MS  # anybody may ask for a collection or a census of the heap; one a second is made
SHRINK_MS = SECOND_MS  # how often the room in the file and on its disk is looked at: 50 µs
SHRINK_BYTES = 256 * 1024  # given back in one transaction, which commits wait for: about a ms
SHRINK_PAUSE_MS = 100  # between two of them: 2.5 MB a second, of which no commit notices anything
SHRINK_SLACK_BYTES = 16 * MIB  # stays in the file: what the next peak needs again
DISK_RESERVE_BYTES = 16 * MIB  # of the disk are kept for acks and cancels, whose commits need room, too
DISK_RESERVE_PART = 20  # and of a small disk no more than a twentieth
MAINTENANCE_TOLD_MS = 60 * SECOND_MS  # the same refusal is told once in this time: the log may be on the same disk
CLOCK_LOOK_S = 10  # how often the system clock is compared with the server's: soon enough for who reads the log
CLOCK_OFF_MS = 3 * SECOND_MS  # so far apart is worth a warning; slewing by NTP moves 0.5 ms a second
QUEUES_A_TURN = 250  # looked at before others are served: 1 ms, some times that on a busy machine
OBJECTS_A_TURN = 20_000  # of the heap counted before others are served: about 1 ms
PICTURE_MS = SECOND_MS  # a page of metrics, which looks at every queue, is made so often at most, for all who ask
RESTARTS_WINDOW_MS = 60 * SECOND_MS  # the time in which a supervised task may use its budget

# --- what is noted of jobs and acts --------------------------------------------------------------
ATTEMPTS_KEPT = 20  # of a job, the last ones: what comes before says the same
ATTEMPTS_BYTES_KEPT = 256 * 1024  # and their size; the newest one is kept however large
LOG_LINES_KEPT = 1000  # of the log of a job, the last ones: it is for a look, not an archive
LOG_BYTES_KEPT = 256 * 1024  # and their size; the records of 100,000 such jobs are 25 GB, not more

# --- the self-audit ------------------------------------------------------------------------------
AUDIT_SLICE = 100  # jobs looked at in one go: half a ms in which nobody else is served
AUDIT_PAUSE_MS = 10 * SECOND_MS  # between two passes: a small queue need not be looked at all the time
AUDIT_DATA_BYTES = 64 * 1024  # of each payload that are read back and compared; the next row is not far then
AUDIT_FINDINGS_MAX = 100  # kept for whoever asks; a broken structure could fill any list

# --- readers of events --------------------------------------------------------------------------
READER_EVENTS_MAX = 10_000  # events a reader may lag behind: about a second of a busy server
READER_BYTES_MAX = 4 * MIB  # and their size; 1,000 stuck readers of large payloads are 4 GiB, not more
REPLAY_EVENTS = 500  # events read from the store at once for a reader that came back: about 1 ms
REPLAY_BYTES = MIB  # and their size, but for the last row: a reader that takes nothing holds so much
SESSION_REPLIES_MAX = 1000  # replies in line before a WebSocket is not read any more
SESSION_BYTES_MAX = 8 * MIB  # and their size; one more, however large, always fits
SESSION_SEND_BYTES = 256 * 1024  # of them sent at once: enough to keep the socket busy, little enough to hold
SESSION_POLLS_MAX = 1000  # waiting pulls of one WebSocket; each is a task
SSE_COMMENT_S = 15  # an idle stream says something; proxies cut silence after 30 to 60 s

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
BROKEN_S = 2  # after a broken invariant: nothing that it still does can be trusted
SECOND_SIGNAL_S = 0.9  # after a second signal: somebody waits at a terminal
LAST_S = 5  # after the grace of a stop and the time for what is to be written

# --- the transports ----------------------------------------------------------------------------
RATE_CLIENTS_MAX = 100_000  # clients remembered by the rate limiter; the idlest one makes room
CLIENT_KEY_MAX = 128  # longest client address taken from a header: IPv6 with zone fits many times
HEADER_BYTES_MAX = 64 * 1024  # request line and headers: what the strictest proxies in use allow
MSGPACK_TOLD_S = 60  # a client that speaks another protocol tries again and again; the log says it once in this time
HEADER_TIMEOUT_S = 30  # a request's headers must be in by then (slow loris)
BODY_TIMEOUT_S = 60  # and its body
HALF_CLOSED_S = 10  # for the answer to a client that says it will send nothing more
WRITE_TIMEOUT_S = 60  # a client that takes none of its answer for this long is gone
FINAL_SEND_S = 0.5  # how long the end of an answer may still take when its request has been cancelled
RECEIVE_BYTES = 64 * 1024  # read and written at once: what a socket buffer holds
PING_S = 20  # a WebSocket that says nothing is pinged so often
PINGS_MISSED_MAX = 2  # and may leave this many unanswered before it is gone
LINGER_S = 2  # how long what a refused client still sends is read, so that it sees its answer
LINGERING_MAX = 1000  # connections that are read so, 10 KiB each; above it they are closed at once
DRAIN_S = 0.05  # at a stop connections are still accepted: those in the kernel's line would be reset, not closed
CLOSE_S = 2  # how long the other side may take to agree to the end of a WebSocket
GOODBYE_S = 10  # how long a goodbye may wait for replies to what came before it: a disk is given up after GIVE_UP_S
SMALL_BODY_BYTES = 4096  # a job, or some: it never waits in line
LARGE_BODY_BYTES = 32 * 1024  # a bulk push of 500 jobs: 3 ms of the event loop, one at a time
HEADS_KEPT = 512  # parsed heads of requests: what the clients of a server send again and again
KEPT_HEAD_BYTES = 1024  # and no longer ones: half a MiB of keys at most
TURN_REQUESTS = 64  # served in one step of the hot loop, with one commit: 2 ms
TURN_LONG_S = 0.002  # and a step of large ones ends earlier; the one that is begun takes what it takes
ANSWERS_MAX = 256  # written in the step of a commit: 2 ms; the tasks of their connections write the others
LONE_REQUESTS = 16  # from one connection, one after the other: it is alone, and its own task is quicker
OWN_REQUESTS = 16  # of a connection that the hot loop could not serve, before it is asked again: most do as they did
MESSAGES_A_TURN = 16  # of one WebSocket before others are served: 0.3 ms, and there may be hundreds
FEED_BYTES = 4096  # of a WebSocket parsed in one step; the smallest frames are 6 bytes, and 10 µs each
SIP_BYTES = 1024  # the same in the slow lane, which takes 20 µs and gives nobody a turn in between
FRAMES_UNSENT_MAX = 64  # pongs of a client that reads none of them, before it is not read any more
ROOM_IDLE_S = 2  # a connection idle for this long makes room for a new one when there are too many
ROOM_ASK_S = 1  # in which the leader says whether it has made room among what a door passes on
ROOM_CONNECTIONS = 32  # and this many of them at once, since looking for them costs a ms
DESCRIPTORS_KEPT = 64  # for the store, its log, threads and listeners; the rest may be connections
STOP_MARGIN_S = 1.0  # before the end of the grace: for close frames and the last answers to get out
KEEPER_S = 1  # how often late, silent and idle connections are looked for
BACKLOG = 1024  # connections waiting to be accepted; Linux caps it at somaxconn (4096)
