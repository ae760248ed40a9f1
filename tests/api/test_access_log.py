"""The access log's bounds: a full queue and a broken output lose records, are counted, and delay nobody."""

import io

from constellation.api.access_log import AccessLog, AccessRecord
from constellation.api.hiding import Hiding

RECORD = AccessRecord(1.0, "id", "GET", "/health", 200, 0.5, 0, 15)


class Closed(io.StringIO):
    """An output whose reader went away."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_stopping_writes_what_is_queued() -> None:
    out = io.StringIO()
    log = AccessLog(Hiding(), out)
    log.start()
    log.write(RECORD)
    log.stop()
    assert out.getvalue().count("\n") == 1 and '"request_id":"id"' in out.getvalue()


def test_full_queue_drops_and_counts() -> None:
    out = io.StringIO()
    log = AccessLog(Hiding(), out, queue_len_max=2)
    for _ in range(5):
        log.write(RECORD)
    assert log.dropped == 3
    log.start()
    log.stop()
    assert out.getvalue().count("\n") == 2


def test_broken_output_is_counted() -> None:
    log = AccessLog(Hiding(), Closed())
    log.write(RECORD)
    log.start()
    log.stop()
    assert log.dropped == 1
