"""The codebook: its bytes, what is refused of them, how one is trained, and the one that ships."""

import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from constellation import codebook
from constellation.codebook import CENTROIDS, Codebook, WrongCodebook
from constellation.codebooks import make
from constellation.model import DIM, VERSION_MAX, Codes
from constellation.residuals import AXES, SECTION_BYTES, TABLES, Decoder, Encoder
from kernels import reference
from kernels.codes import inverse_norms, quantise
from tests.kernels.material import random_codes


def small(version: int = 7, size: int = 5) -> Codebook:
    return codebook.build(version, {CENTROIDS: random_codes(version, size, DIM).tobytes(), "later": b"unknown"})


def sealed(body: bytes) -> bytes:
    """With the right checksum: what only a wrong writer makes."""
    return body + xxhash.xxh64_digest(body)


def quantised(size: int) -> dict[str, bytes]:
    """The sections of a quantiser."""
    ones = {name: bytes([1]) * count for name, count in SECTION_BYTES.items()}
    return ones | {"weights": bytes([1]) * 2 * size, "unit": struct.pack("<f", 1)}


CONTENT = codebook.encode(small())
HEAD = len(b"constellation codebook")


@given(
    version=st.integers(1, VERSION_MAX),
    size=st.integers(1, 4),
    others=st.dictionaries(st.text("abcdÿ", min_size=1, max_size=16), st.binary(max_size=50), max_size=3),
)
def test_what_is_decoded_is_encoded_again(version: int, size: int, others: dict[str, bytes]) -> None:
    codes = random_codes(size, size, DIM)
    content = codebook.encode(codebook.build(version, {CENTROIDS: codes.tobytes(), **others}))
    back = codebook.decode(content)
    assert (back.version, len(back)) == (version, size)
    np.testing.assert_array_equal(back.codes, codes)
    np.testing.assert_array_equal(back.inverse, reference.inverse_norms(codes))
    assert codebook.encode(back) == content
    assert {name: back.sections[name] for name in others} == others


def test_centroids_cannot_be_written() -> None:
    for column in (small().codes, small().inverse):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[at] ^= change
    with pytest.raises(WrongCodebook, match="copy it again, or train another"):
        codebook.decode(bytes(damaged))


@given(st.integers(0, len(CONTENT) - 1))
def test_any_length_but_its_own_is_refused(length: int) -> None:
    for wrong in (CONTENT[:length], CONTENT + CONTENT[: length + 1]):
        with pytest.raises(WrongCodebook):
            codebook.decode(wrong)


@given(st.binary(max_size=120))
def test_no_bytes_with_a_right_checksum_do_worse_than_being_refused(tail: bytes) -> None:
    with pytest.raises(WrongCodebook):
        codebook.decode(sealed(CONTENT[:HEAD] + tail))


@pytest.mark.parametrize(
    ("at", "form", "value", "said"),
    [
        (HEAD, "<I", 2, "format 2, this release reads 1"),
        (HEAD + 4, "<Q", 0, "version 0"),
        (HEAD + 4, "<Q", VERSION_MAX + 1, "version 9007199254740992"),
        (HEAD + 12, "<H", 1, "says 1 sections"),
        (HEAD + 12, "<H", 3, "says 3 sections"),
        (HEAD + 14, "<16s", b"later", "says 2 sections"),
        (HEAD + 14, "<16s", b"other", "centroids are 0 bytes"),
        (HEAD + 30, "<I", 5 * DIM + 1, "says 2 sections"),
        (HEAD + 30, "<I", 2**32 - 1, "says 2 sections"),
        (HEAD + 34 + DIM, f"<{DIM}s", b"", "centroid 1 is zero"),
        (HEAD + 34 + DIM, "<b", -128, "centroid 1 has a component of -128"),
    ],
)
def test_wrong_field_is_named(at: int, form: str, value: int | bytes, said: str) -> None:
    body = bytearray(CONTENT[:-8])
    struct.pack_into(form, body, at, value)
    with pytest.raises(WrongCodebook, match=said):
        codebook.decode(sealed(bytes(body)))


@pytest.mark.parametrize("size", [0, codebook.SIZE_MAX + 1])
def test_number_of_centroids_is_bounded(size: int) -> None:
    with pytest.raises(WrongCodebook, match=f"384 each for 1 to {codebook.SIZE_MAX}"):
        codebook.build(1, {CENTROIDS: bytes(size * DIM)})


def test_largest_codebook_is_within_its_bytes() -> None:
    size = codebook.SIZE_MAX
    sections = {CENTROIDS: bytes([1]) * size * DIM, **quantised(size)}
    content = codebook.encode(codebook.build(1, sections))
    assert len(content) < codebook.BYTES_MAX <= 2_500_000
    assert len(codebook.decode(content)) == codebook.SIZE_MAX


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("axes", b"", f"'axes' is 0 bytes, not {AXES * DIM}"),
        ("tables", bytes(7), "'tables' is 7 bytes"),
        ("weights", bytes(2), "'weights' is 2 bytes, not 10"),
        ("weights", bytes(10), "'weights' or 'unit' holds what is none"),
        ("unit", struct.pack("<f", np.nan), "'weights' or 'unit' holds what is none"),
        ("unit", struct.pack("<f", -1), "'weights' or 'unit' holds what is none"),
        ("axes", bytes(AXES * DIM), "an axis of length 0"),
        ("axes", bytes([1]) * (AXES * DIM - 1) + b"\x80", "a component below -127"),
        ("tables", bytes([1]) * (SECTION_BYTES["tables"] - 1) + b"\x80", "a component below -127"),
    ],
)
def test_section_of_a_quantiser_that_is_wrong_is_named(name: str, content: bytes, said: str) -> None:
    sections = {CENTROIDS: small().codes.tobytes(), **quantised(5), name: content}
    with pytest.raises(WrongCodebook, match=said):
        codebook.build(1, sections)


def test_codebook_without_a_quantiser_has_none() -> None:
    assert small().quantiser is None
    assert codebook.build(1, {CENTROIDS: small().codes.tobytes(), **quantised(5)}).quantiser is not None


def test_bucket_is_the_nearest_centroid() -> None:
    book, codes = small(size=9), random_codes(3, 50, DIM)
    np.testing.assert_array_equal(book.buckets(codes), reference.nearest_centroid(codes, book.codes, book.inverse))
    np.testing.assert_array_equal(book.buckets(book.codes[:2].copy()), [0, 1])


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.bin").write_bytes(CONTENT[:-1])
    for file, said in (("none.bin", "cannot read .*none.bin: No such file"), ("no.bin", "no.bin: .*checksum")):
        with pytest.raises(WrongCodebook, match=said):
            codebook.load(tmp_path / file)


# Training


def samples(seed: int, count: int) -> Codes:
    """Codes near 8 directions."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((8, DIM))
    return quantise((centres[rng.integers(0, 8, count)] + 0.1 * rng.standard_normal((count, DIM))).astype(np.float32))


def test_buckets_of_a_trained_codebook_do_not_mix_what_is_apart() -> None:
    book = codebook.train(samples(1, 300), 16, version=3, seed=1)
    assert (book.version, len(book)) == (3, 16)
    buckets = book.buckets(samples(2, 100)).tolist()
    directions = np.random.default_rng(2).integers(0, 8, 100).tolist()
    assert len(set(zip(buckets, directions, strict=True))) == len(set(buckets)) >= 8


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    first, again, other = (codebook.train(samples(1, 200), 5, version=1, seed=seed) for seed in (1, 1, 2))
    assert codebook.encode(first) == codebook.encode(again) != codebook.encode(other)


def test_progress_rises_step_by_step() -> None:
    shares: list[float] = []
    codebook.train(samples(1, 200), 4, 1, 1, shares.append)
    assert len(shares) > 5 and shares == sorted(set(shares)) and shares[0] > 0 and shares[-1] <= 1


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(WrongCodebook, match="79 samples are too few for 5 centroids, which take 16 each"):
        codebook.train(samples(1, 79), 5, 1, 1)


def test_size_that_is_not_allowed_is_refused() -> None:
    for size in (0, codebook.SIZE_MAX + 1):
        with pytest.raises(WrongCodebook, match="choose 1 to 4,096"):
            codebook.train(samples(1, 20), size, 1, 1)


# The one that ships


def test_the_one_that_ships_is_what_its_script_makes() -> None:
    file = Path(make.__file__).with_name(f"{make.VERSION}.bin")
    book = codebook.default_codebook()
    assert (book.version, len(book)) == (make.VERSION, make.SIZE)
    assert codebook.encode(book) == file.read_bytes()
    assert file.stat().st_size <= 1 << 20
    assert set(book.sections) == {CENTROIDS, "weights", "axes", "tables", "unit"}


def test_the_one_that_ships_lies_nearer_to_patterns_than_as_many_patterns_do() -> None:
    patterns = make.patterns(seed=2)
    drawn = codebook.build(1, {CENTROIDS: patterns[-make.SIZE :].tobytes()})
    asked = patterns[:5_000]
    assert mean_cosine(codebook.default_codebook(), asked) > mean_cosine(drawn, asked) + 0.05
    counts = np.bincount(codebook.default_codebook().buckets(asked), minlength=make.SIZE)
    assert counts.max() < 50 and (counts > 0).mean() > 0.9


def test_residuals_bring_what_is_decoded_near() -> None:
    book, asked = codebook.default_codebook(), make.patterns(seed=2)[:2_000]
    assert book.quantiser is not None
    inverse, numbers = inverse_norms(asked), book.buckets(asked)
    residuals = Encoder(book.codes, book.quantiser).encode(asked, inverse, numbers)
    decoded = Decoder(book.codes, book.quantiser).decode(numbers, residuals)
    cosines = (asked * inverse[:, None] * decoded * inverse_norms(decoded)[:, None]).sum(axis=1)
    assert residuals.shape == (2_000, TABLES) and cosines.mean() > max(0.92, mean_cosine(book, asked) + 0.1)


def test_sum_of_zero_stays_zero() -> None:
    book = codebook.default_codebook()
    assert book.quantiser is not None
    none = replace(book.quantiser, axes=np.zeros_like(book.quantiser.axes))
    decoder = Decoder(np.zeros_like(book.codes), none)
    assert not decoder.decode(np.zeros(2, np.int32), np.zeros((2, TABLES), np.uint8)).any()


def test_quantiser_of_few_samples_decodes_each_of_them() -> None:
    seen = samples(1, 100)
    book = codebook.train(seen, 5, version=1, seed=1)
    assert book.quantiser is not None
    numbers = book.buckets(seen)
    residuals = Encoder(book.codes, book.quantiser).encode(seen, inverse_norms(seen), numbers)
    decoded = Decoder(book.codes, book.quantiser).decode(numbers, residuals)
    one, other = (codes * inverse_norms(codes)[:, None] for codes in (seen, decoded))
    assert (one * other).sum(axis=1).min() > 0.95


def mean_cosine(book: Codebook, codes: Codes) -> float:
    centroids = (book.codes * book.inverse[:, None])[book.buckets(codes)]
    return float((codes * inverse_norms(codes)[:, None] * centroids).sum(axis=1).mean())
