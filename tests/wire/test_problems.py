"""Problems as bodies: the same fields in both media, as RFC 9457 names them."""

import pytest

from constellation import errors
from constellation.wire.media import Media
from constellation.wire.problems import CONTENT_TYPES, encode_problem, problem_fields
from tests.wire.samples import BOTH, decode


@BOTH
def test_a_problem_names_status_code_and_path(media: Media) -> None:
    problem = errors.InvalidPattern("delta.sequence: expected int, got str", path="delta.sequence")
    assert decode(encode_problem(problem, "request-1", media), media) == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "code": "invalid_pattern",
        "detail": "delta.sequence: expected int, got str",
        "instance": "request-1",
        "path": "delta.sequence",
    }


def test_path_is_absent_where_no_field_is_at_fault() -> None:
    assert "path" not in problem_fields(errors.Malformed("x"), "r")


def test_a_conflict_says_the_last_sequence() -> None:
    fields = problem_fields(errors.SequenceConflict("x", last_sequence=17), "r")
    assert (fields["last_sequence"], fields["path"]) == (17, "delta.sequence")


def test_a_refusal_that_passes_says_when_to_come_back() -> None:
    assert problem_fields(errors.ShardFull("x", retry_after_s=30), "r")["retry_after_s"] == 30


def test_instance_is_a_uri_reference() -> None:
    assert problem_fields(errors.Malformed("x"), 'a b/"c"\n')["instance"] == "a%20b%2F%22c%22%0A"


def test_json_problems_have_the_type_of_rfc_9457() -> None:
    assert CONTENT_TYPES == {Media.JSON: "application/problem+json", Media.MSGPACK: "application/msgpack"}


@pytest.mark.parametrize("kind", [errors.TooLarge, errors.NotFound, errors.UnsupportedMediaType, errors.Problem])
def test_every_status_has_a_title(kind: type[errors.Problem]) -> None:
    assert problem_fields(kind("x"), "r")["title"]
