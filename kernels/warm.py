"""Compile or load every kernel before a port opens, with the very types that the service calls them with.

Called once at start by the service, the worker and the fleet. With a filled cache it takes well under a second.
"""

import numpy as np

from kernels import (
    arrivals,
    blocks,
    centroids,
    chains,
    codes,
    contributions,
    cursors,
    interests,
    keytable,
    lists,
    partition,
    product,
    queries,
    rankings,
    rates,
    records,
    rows,
    scan,
    sketches,
    sums,
    trends,
)

DIM = 384


def warm() -> None:
    """Run each kernel once on a tiny input."""
    _warm_codes()
    _warm_scan()
    _warm_centroids()
    _warm_sums()
    _warm_contributions()
    _warm_keytable()
    _warm_trends()
    _warm_lists()
    _warm_chains()
    _warm_rates()
    _warm_rows()
    _warm_product()
    _warm_cursors()
    _warm_rankings()
    _warm_blocks()
    records.sort_records(np.zeros((2, records.RECORD_BYTES), np.uint8))


def _warm_codes() -> None:
    vectors = np.ones((1, DIM), np.float32)
    codes.check_vectors(vectors)
    one = codes.quantise(vectors)
    codes.check_codes(one)
    inv = codes.inverse_norms(codes.requantise(one))
    read_only = one.copy()
    read_only.setflags(write=False)  # as what a database sent is
    codes.inverse_norms(read_only)
    codes.dequantise(one, inv)
    codes.format_json(one, inv)


def _warm_scan() -> None:
    some = np.ones((2, DIM), np.int8)
    inv = np.ones(2, np.float32)
    both = np.arange(2, dtype=np.int32)
    for query_inv in (1.0, np.float32(1.0)):  # both are scalars a caller has at hand
        scan.scan_top_k(some, inv, both, some[0], query_inv, 1)
        scan.scan_all_top_k(some, inv, np.ones(2, np.uint8), 0, 2, some[0], query_inv, 1)
        scan.cosines(some, inv, both, some[0], query_inv)
    scan.pairwise_cosine(some, inv, both)


def _warm_centroids() -> None:
    some, inv = np.ones((2, DIM), np.int8), np.ones(2, np.float32)
    coarse = centroids.coarsen(some, inv)
    read_only = some.copy(), inv.copy()
    for column in read_only:  # as those of a codebook are
        column.setflags(write=False)
    for of in ((some, inv), read_only):
        centroids.nearest_centroid(some, *of, *coarse)
    centroids.place(np.zeros(2, np.int32), np.arange(2, dtype=np.int32), some, *read_only, *coarse)


def _warm_sums() -> None:
    into = sums.empty(1, DIM)
    bucket = np.zeros(1, np.int32)
    some = np.ones((1, DIM), np.int8)
    ones = np.ones(1, np.float32)
    samples = np.ones(1, np.uint32)
    sums.accumulate(*into, bucket, some, ones, ones, samples, 1_000)
    sums.finish(into.sums, into.weights)
    sums.remove(*into, bucket, some, ones, ones, samples, 1_000)
    for rate in (1.0, np.float32(1.0)):
        sums.contribution_weight(rate, 1, 1_000)
    sums.merge(into, sums.empty(1, DIM))


def _warm_contributions() -> None:
    one = np.ones(1, np.float32)
    of_rows = (np.zeros(1, np.int32), np.ones((1, DIM), np.int8), one, one, np.ones(1, np.uint32))
    buckets, _, _, rates, counts = of_rows
    starts, rows = contributions.heaviest(
        np.array([0, 1]), np.zeros(1, np.int32), buckets, rates, counts, 1_000, buckets_max=1
    )
    contributions.contribute(contributions.empty_totals(1, DIM), starts, rows, *of_rows, 1_000, 1_000, 1)


def _warm_keytable() -> None:
    owners = np.zeros(64, np.int32)
    ids = np.zeros((64, 16), np.uint8)
    ids[:, 0] = np.arange(64)
    table = keytable.KeyTable(owners, ids, seed=0, capacity=8)
    table.insert_many(np.arange(64, dtype=np.int32))  # grows, so that moving is run too
    table.find(0, bytes(16))
    table.find_many(owners, ids)
    table.delete(0)
    table.insert(0)


def _warm_trends() -> None:
    counts = trends.empty_counts(1)
    scores = np.zeros(1)
    live = np.ones(1, np.uint8)
    trends.credit(counts, scores, 0, 0, 1)
    trends.roll_hours(counts, scores, 1, 0, 1, 0.95)
    for of in (counts, counts.astype(np.int64)):  # one shard's, and the sums of several
        trends.recompute_scores(of, scores, 0, 1, 1, 0.95)
    trends.debit(counts, scores, 0, 1, 1, 0, 0.95)
    trends.top_k(scores, live, 1)
    trends.top_k(scores.astype(np.float32), live, 1)


def _warm_lists() -> None:
    """Enough rows to split a list, then few enough to dissolve one."""
    n = 2 * lists.CAPACITY
    rng = np.random.default_rng(0)
    made = rng.integers(-99, 99, (n, DIM), dtype=np.int8)
    short = np.ascontiguousarray(made[:, : sketches.AXES])
    low, high = lists.empty_level(16, 2 * n), lists.empty_level(16, 16)
    for row in range(n):
        partition.insert(low, high, row, short[row])
    partition.settle(low, high, 0)
    inv = codes.inverse_norms(made)
    some = np.arange(2, dtype=np.int32)
    queries.mean_code(made, inv, some, np.ones(2))
    queries.project(made, inv, made, inv)
    lists.search(low, high, made, inv, made[0], short[0], 2, 10, 5)
    for row in range(n):
        partition.remove(low, high, row)
    seeds = np.zeros(2, np.int64)
    partition.seed(low, high, seeds, short)
    partition.insert_many(low, high, seeds, np.arange(n, dtype=np.int32), short)
    partition.place_many(
        *(low, high, seeds, np.arange(n, 2 * n, dtype=np.int32)),
        *(np.zeros(n, np.int32), np.zeros((n, sketches.HALF), np.uint8)),
    )
    partition.make_room(low, high, seeds)
    partition.weed(low, high, seeds)


def _warm_rows() -> None:
    stream = np.zeros(64, np.uint8)
    stream[:2] = 255
    stream.flags.writeable = False
    rows.split_rows(stream, 4, 1)
    some = np.ones((1, DIM), np.int8)
    rows.codes_of_halves(rows.unit_halves(some, np.ones(1, np.float32)))


def _warm_product() -> None:
    some, one = np.ones((192, DIM), np.int8), np.ones(192, np.float32)
    numbers, tables = np.zeros(1, np.int32), np.zeros((32, 6, product.ENTRIES), np.float32)
    product.encode(some[:1], one[:1], numbers, some, one, some, one, tables)
    entries = np.ones((32, product.ENTRIES, 6), np.int8)
    residuals, weights = np.zeros((1, 32), np.uint8), np.ones(192, np.int32)
    product.decode(residuals, numbers, some, weights, product.pair(some), entries)


def _warm_rates() -> None:
    ones = np.ones(1, np.uint32)
    rates.merge_rates(np.ones(1, np.float32), ones, np.zeros(1, np.int32), np.ones(1, np.float32), ones, 9)


def _warm_chains() -> None:
    first, following = np.full(1, -1, np.int32), np.full(2, -1, np.int32)
    chains.link(first, following, 0, 0)
    chains.link(first, following, 0, 1)
    chains.rows_of(first, following, 0)
    chains.rows_of_many(first, following, np.zeros(1, np.int32))
    chains.link_all(np.full(1, -1, np.int32), following.copy(), np.zeros(2, np.int32), np.zeros(1, np.int32))
    chains.unlink(first, following, 0, 0)


def _warm_blocks() -> None:
    bytes_, times, one = np.ones(1, np.uint8), np.ones(1, np.int64), np.ones(1, np.float32)
    numbers, counts = np.ones(1, np.int32), np.ones(1, np.uint32)
    blocks.round_rates(one)
    blocks.round_counts(counts)
    packed, _, _ = blocks.pack_columns(
        *(bytes_, np.ones(1, np.bool_), np.zeros(1, np.int64), numbers, bytes_.reshape(1, 1)),
        *(one, counts, times, times),
    )
    packed.flags.writeable = False  # as what was received is
    blocks.unpack_columns(packed, 4, 1, 1, 0, 1_024)
    blocks.number_contexts(np.zeros((1, blocks.CONTEXT_COLUMNS), np.int32), np.zeros(1, np.int32))


def _warm_cursors() -> None:
    words, sent = np.zeros(cursors.SLOTS, np.uint32), np.zeros(cursors.SLOTS, np.uint16)
    revisions, ids = np.zeros((1, 3), np.uint16), np.zeros((1, 2), np.uint64)
    cursors.tell(words, sent, cursors.NOTHING, np.zeros(1, np.int32), revisions, revisions, ids, ids)
    cursors.unchanged(words, sent, np.zeros(1, np.int32), revisions, revisions)


def _warm_rankings() -> None:
    """A device with one pattern asks for what one other pattern and one prototype are."""
    some, one, rows = np.ones((2, DIM), np.int8), np.ones(2, np.float32), np.zeros(2, np.int32)
    households = interests.Households(
        *(rows, np.full(2, -1, np.int32), some, one, one, np.ones(2, np.uint32)),
        *(np.ones((sketches.AXES, DIM), np.int8), np.ones(sketches.AXES, np.float32), interests.Bounds(0.5, 3, 9)),
    )
    asked, _, _, parts, _ = interests.ask(households, 0, 1)
    lately = arrivals.empty_arrivals(8, 2, np.ones((2, sketches.AXES), np.int8))
    for row in (0, 1):
        arrivals.note(lately, row, np.ones(sketches.AXES, np.int8))
    question = np.array([rankings.fingerprint(asked, parts, 0, 1)], np.uint64)
    rankings.renewed(
        rankings.Remembered(np.zeros((1, 9), np.int32), np.ones((1, 6), np.uint8), question, np.full(1, 2)),
        *(0, households, 0, 1, 1, rankings.Patterns(some, one, np.full(2, 9, np.int32), np.ones(2, np.int32))),
        *(lately, rankings.Prototypes(some, one, rows)),
    )
