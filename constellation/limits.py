"""Every bound of the service that is not a setting, by name, and how they must relate.

Units and bounds come last in a name. Asserted on import: a change that breaks a relation fails at once.
Imported by every package; imports nothing of ours.
"""

# One delta.
ADDED_PER_DELTA_MAX = 100
CHANGED_PER_DELTA_MAX = 1_000
SAMPLE_COUNT_MAX = 1_000_000
UNIX_SECONDS_MAX = 2**40
CONTEXT_STRING_BYTES_MAX = 32
GENRE_HINTS_MAX = 8

# One body.
BODY_BYTES_MAX = 1 << 20
COMPRESSED_BODY_BYTES_MAX = 256 << 10
ZSTD_WINDOW_BYTES_MAX = 8 << 20
DICTIONARY_BYTES_MAX = 4 << 10
DICTIONARY_REPLY_BYTES_MAX = 8 << 10
"""Before compression. A dictionary saves a reply 150 to 450 bytes whatever its size, and takes nearly twice the time
for a long one (`python -m bench upload`)."""

# One answer.
SIMILAR_MAX = 100
TRENDING_MAX = 50
CONTENT_PER_PULL_MAX = 100
INTERESTS_MAX = 3
BEST_KNOWN_COUNT_CAP = 1_000
WEIGHT_COUNT_CAP = 1_000

# Content.
CONTENT_ID_BYTES_MAX = 64
TITLE_BYTES_MAX = 256
GENRE_BYTES_MAX = 64
CONTENT_ITEMS_MAX = 200_000
GENRE_TRENDS_MAX = 4_096

# One shard.
PATTERNS_PER_DEVICE_MAX = 255
CONTEXT_STRINGS_MAX = 65_536
ACTIVE_WINDOW_S = 900
LOOP_TURN_MS_MAX = 5

DAY_S = 86_400
SEEN_EVERY_S = DAY_S
"""How often it is written down that a device is still there, if nothing else is."""
EXPIRED_PER_STEP_MAX = 4
"""One with ten patterns takes up to 1 ms (`bench.turns`)."""
EXPIRE_EVERY_S = 600
EXPIRE_RESTS = 4
"""Times as long as a step takes: where millions expire together, syncs have four fifths of the loop."""

# Serving.
IN_FLIGHT_MAX = 640
"""Requests that are here and not answered; those that wait for their own client do not count. At 1 ms a sync the last
of them is started after 0.6 s."""
IN_FLIGHT_QUIET_MAX = 512
"""Of these, before syncs that bring no new pattern are refused."""
IN_FLIGHT_OTHER_MAX = 320
"""Of these, before all else but health and metrics is refused: reads for people, titles, files for TVs."""
QUIET_BODY_BYTES_MAX = 256
"""A shorter body holds no new pattern: the embedding alone takes 384 bytes, and they hardly compress."""
QUEUED_S_MAX = 2.0
"""A request that waited longer for its turn is not started."""
DEADLINE_MS_MIN, DEADLINE_MS_MAX = 100, 3_600_000
"""That a client may give a request; nobody who asks over a network waits less."""
LENGTH_DIGITS_MAX = 18
REFUSED_PAUSE_S = 1.0
"""In which a connection is not read after a refusal, while more are refused than served: the least `Retry-After`."""
BODY_BYTES_HELD_MAX = 64 << 20
"""Of all bodies that came in part."""
BODY_READ_S_MAX = 15
KEEP_ALIVE_S_MAX = 75
CALLS_MAX = 4_096
"""Of gRPC at once, open streams among them."""
STREAMS_MAX = 2_048
STRANGERS_STREAMS_MAX = 64
"""Of gRPC, of those that ask for no token: whoever watches the health, or reads what is served."""
STREAM_IDLE_S_MAX = 1_200
CALLS_END_S_MAX = 1
"""When the port closes, for those that are not answered by then."""
HEALTH_LOOK_S = 0.25
"""How soon who watches the health of gRPC hears of a change."""
REQUEST_ID_CHARS_MAX = 64
DRAIN_S_MAX = 20
DRAIN_ANNOUNCED_S_MIN = 1
MAINTAIN_EVERY_MS = 50
LATENCY_SAMPLES = 4_096
RETRY_AFTER_S = 30
RETRY_AFTER_S_MAX = 300
NEXT_SYNC_AFTER_S = 300
NEXT_SYNC_WITHIN_S = 600
NEXT_SYNC_STRETCH_MAX = 8
"""Times as long a loaded shard sends devices away: four million of them are then 833 syncs/s, about what it can."""
ACCESS_LOG_QUEUE_LEN_MAX = 10_000

# Tracing.
SPAN_QUEUE_LEN_MAX = 8_192
SPANS_PER_REQUEST_MAX = 512
TRACES_SENT_EVERY_S = 1.0
TRACE_REQUEST_S_MAX = 10.0
TRACE_ATTEMPTS_MAX = 4
TRACES_SENT_LAST_S_MAX = 3.0
"""At a stop: what a collector has not taken by then is lost, and counted."""

assert SPANS_PER_REQUEST_MAX <= SPAN_QUEUE_LEN_MAX
# The page.
HISTORY_LEN = 600
"""Seconds."""
LISTENERS_MAX = 64
EVENTS_QUEUED_MAX = 30
"""For one listener: 20 s of them, about."""
ROUNDS_SHOWN = 12
# Connections.
HEAD_READ_S_MAX = 10
MESSAGE_READ_S_MAX = 20
"""Head and body; what a body takes too long for is told the client before."""
REPLY_TAKEN_S_MAX = 30
"""In which a client must have taken all that waits for it."""
CONNECTIONS_LOOKED_AT_EVERY_S = 1.0
CONNECTIONS_PER_TURN_MAX = 1_000
OVERHEAD_BYTES_MAX = 64 << 10
"""Of one request, whatever is not its body."""
PIPELINED_MAX = 16
"""Requests that wait for the reply to the one before, on one connection."""
SEND_BUFFER_BYTES = 128 << 10
"""Of replies, on one connection, in the kernel."""
FILES_RESERVED = 256
"""Of those that the system lets a process open; the rest may be connections."""
METRICS_CONNECTIONS_MAX = 64

# HTTP/3.
QUIC_WINDOW_BYTES = 64 << 10
"""Held of a client at once, on one connection: what cannot be put in order, decoded or taken yet."""
QUIC_STREAMS_MAX = 16
"""Requests at once on one connection."""
QUIC_CONTROL_STREAMS_MAX = 8
"""Of a client; HTTP/3 needs three."""
QUIC_GAPS_MAX = 128
"""In what came of one stream: who loses packets has few, and each costs time with every packet."""
QUIC_DATAGRAM_BYTES_MAX = 1_500
QUIC_HEAD_BYTES_MAX = 16 << 10
QUIC_HEADERS_MAX = 128
QUIC_REPLY_PIECE_BYTES = 64 << 10
QUIC_SOCKET_BYTES = 4 << 20
"""Of the kernel, each way: all connections share one socket."""
ALT_SVC_S = 3_600
"""For which a client may remember that there is HTTP/3."""

# Training a codebook.
SAMPLE_MAX = 10_000
SAMPLE_ROWS_DRAWN = 40_000
"""For a sample, of all rows that patterns may be in."""
SAMPLED_PER_TURN = 2_000

# Durability.
FLUSH_EVERY_S = 1.0
FILES_LOOKED_AT_EVERY_S = 2.0
"""Keys, revocations and certificates; a look that finds nothing new costs microseconds, in a thread."""
FLUSH_RETRY_S_MAX = 15.0
FLUSH_PATTERNS_MAX = 1_000
FLUSH_TITLES_MAX = 200
FLUSH_CELLS_MAX = 5_000
RECORDS_READ_PER_TURN_MAX = 64
JOURNAL_KEPT_S = 900
LAST_FLUSH_S_MAX = 10.0
JOURNAL_TRIMMED_PER_STEP_MAX = 64
JOURNAL_KEEP_EVERY_S = 0.5
SNAPSHOT_RECORDS_MAX = 20_000
"""Of the journal behind a snapshot, about: reading one takes 0.1 ms at start."""
SNAPSHOT_GAP_S_MIN = 60
SNAPSHOT_PATTERNS_PER_TURN = 500
SNAPSHOT_PAUSE = 9
"""Times as long as it took to write a piece the next one waits: a tenth of a core."""

assert COMPRESSED_BODY_BYTES_MAX <= BODY_BYTES_MAX <= ZSTD_WINDOW_BYTES_MAX
assert SIMILAR_MAX + PATTERNS_PER_DEVICE_MAX < 1_000
assert SAMPLED_PER_TURN <= SAMPLE_MAX <= SAMPLE_ROWS_DRAWN
assert DRAIN_ANNOUNCED_S_MIN + BODY_READ_S_MAX < DRAIN_S_MAX
assert ACTIVE_WINDOW_S < STREAM_IDLE_S_MAX
assert IN_FLIGHT_MAX + STREAMS_MAX + STRANGERS_STREAMS_MAX < CALLS_MAX
# Of a shard that is not loaded. Stretched, a device comes back when it no longer counts as active: the window is the
# contract's, and a device that is sent away for longer has not synced within it.
assert NEXT_SYNC_AFTER_S + NEXT_SYNC_WITHIN_S <= ACTIVE_WINDOW_S
assert IN_FLIGHT_OTHER_MAX < IN_FLIGHT_QUIET_MAX < IN_FLIGHT_MAX
assert HEAD_READ_S_MAX <= BODY_READ_S_MAX < MESSAGE_READ_S_MAX
assert BODY_BYTES_MAX <= BODY_BYTES_HELD_MAX
assert RETRY_AFTER_S <= RETRY_AFTER_S_MAX
assert QUIC_HEAD_BYTES_MAX < QUIC_WINDOW_BYTES

# Replies that tell what changed.
FREED_ROWS_KEPT = 4_096
"""Of patterns, and of prototypes: so many removals later the id of a removed one is still known."""

# Trends.
TREND_SAMPLES_PER_DEVICE_HOUR_MAX = 200
TREND_DECAY_PER_HOUR = 0.95

# Federation.
ROUND_BYTES_MAX = 1 << 28
"""Of an encoded partial or round, unpacked."""
TREND_ITEMS_PER_PARTIAL_MAX = 5_000
AGGREGATES_DEVICES_MIN = 20
"""Distinct devices behind anything a round publishes, where a shard shares aggregates only."""
SHARD_LIVE_S = 20
"""Since a shard's last heartbeat; a round waits for those that live."""
SHARD_HEARTBEAT_S = 2
LEASE_S = 30
"""After which another worker goes on for one that was not heard of."""
WORKER_POLL_S = 1.0
ROUNDS_KEPT = 200
MOVE_DEVICES_MAX = 20_000
"""Of one move of slots, about: so many devices wait for it, for a minute at most."""
MOVE_PATTERNS_PER_PIECE = 40
"""Taken in within one turn of the loop."""
MOVE_PIECES_PER_STEP = 40
"""Told or taken in between two heartbeats."""
MOVE_GIVEN_UP_S = 120
"""After which devices are served where they were, if the shard that they go to was not heard of."""
MOVE_POLL_S = 0.2
"""Between two looks of a shard that has to do with one."""
MOVES_KEPT = 1_000
MOVING_RETRY_AFTER_S = 2

assert 2 * SHARD_HEARTBEAT_S < SHARD_LIVE_S
assert 10 * WORKER_POLL_S < LEASE_S
assert SHARD_LIVE_S < MOVE_GIVEN_UP_S
