"""The dictionaries that ship: what they are, that they never change, and what the newest does for real bodies."""

import msgspec
import numpy as np
import pytest
import zstandard

from constellation import catalogue
from constellation.dictionaries import make
from constellation.fleet.films import prepare
from constellation.limits import DICTIONARY_BYTES_MAX, DICTIONARY_REPLY_BYTES_MAX
from constellation.wire.body import compress
from constellation.wire.dictionary import FIRST_ID, LAST_ID, checksum, newest, packaged, train
from constellation.wire.media import Media
from constellation.wire.reply import decode_reply
from constellation.wire.sync import decode_sync

SHIPPED = {32_769: "a3c7a4cb7f1e9c47"}
"""Of every dictionary that ever shipped: TVs keep them for years, so a file here is neither changed nor dropped."""


def test_dictionaries_are_those_that_shipped() -> None:
    assert {number: checksum(content) for number, content in packaged().items()} == SHIPPED
    assert newest() == max(SHIPPED)


@pytest.mark.parametrize("number", SHIPPED)
def test_dictionary_names_itself_and_is_small(number: int) -> None:
    content = packaged()[number]
    assert zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT).dict_id() == number
    assert FIRST_ID <= number <= LAST_ID and len(content) <= DICTIONARY_BYTES_MAX


def test_training_gives_the_same_bytes_for_the_same_samples() -> None:
    samples = make.samples(prepare(catalogue.load()), np.random.default_rng(2))[:300]
    first, second = (train(samples, LAST_ID) for _ in range(2))
    assert first == second and zstandard.ZstdCompressionDict(first).dict_id() == LAST_ID


def test_samples_are_bodies_as_tvs_and_shards_write_them() -> None:
    for number, body in enumerate(make.samples(prepare(catalogue.load()), np.random.default_rng(3))[2:65]):
        fields = msgspec.msgpack.decode(body)
        if "delta" in fields:
            decode_sync(body, Media.MSGPACK)
        elif isinstance(fields["global"]["similar"], bytes):
            fields["global"] |= {"similar": [], "trending": None, "removed": []}
            decode_reply(msgspec.msgpack.encode(fields), Media.MSGPACK)
        else:
            decode_reply(body, Media.MSGPACK)
        assert len(body) <= DICTIONARY_REPLY_BYTES_MAX, number


def test_newest_makes_bodies_it_was_not_trained_on_shorter() -> None:
    films, rng = prepare(catalogue.load()), np.random.default_rng(4)
    for body, share in (
        (make.delta(films, 2, 0, 0, rng), 0.85),
        (make.delta(films, 0, 0, 0, rng), 0.6),
        (make.delta(films, 0, 3, 0, rng), 0.6),
        (make.changes(films, 0, None, rng), 0.5),
        (make.changes(films, 0, None, rng, compact=False), 0.5),
        (make.changes(films, 5, None, rng), 0.7),
        (make.whole(films, rng), 0.97),
    ):
        assert len(compress(body, newest())) < share * len(compress(body))
