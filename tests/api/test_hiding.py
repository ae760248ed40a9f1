"""What looks like a device's id does not stand in a line, however it is written."""

import hashlib
import hmac
import io
import json
import logging
from pathlib import Path
from uuid import UUID

import pytest

from constellation.api.access_log import AccessLog, AccessRecord
from constellation.api.hiding import Hiding, hiding
from constellation.api.log import JsonFormatter
from constellation.config import RANDOM, WrongSetting

DEVICE = UUID("550e8400-e29b-41d4-a716-446655440000")
KEY = b"sixteen bytes or more"
HASHED = hmac.new(KEY, str(DEVICE).encode(), hashlib.sha256).hexdigest()[:16]


@pytest.mark.parametrize(
    "written", [str(DEVICE), str(DEVICE).upper(), DEVICE.hex, repr(DEVICE.bytes), f"UUID('{DEVICE}')"]
)
def test_id_is_hashed_however_it_is_written(written: str) -> None:
    hidden = Hiding(KEY).text(f"no device {written}: gone")
    assert HASHED in hidden and written not in hidden
    assert str(DEVICE) not in hidden.lower() and DEVICE.hex not in hidden.lower()


def test_all_bytes_are_found_as_python_shows_them() -> None:
    for start in range(0, 256, 8):
        device = bytes((start + i) % 256 for i in range(16))
        hidden = Hiding(KEY).text(f"KeyError: {device!r}")
        assert hidden == f"KeyError: hashed:{Hiding(KEY).device(device)}"


def test_other_text_stays_as_it_is() -> None:
    text = "b'short' 0123456789abcdef 0.5 it's b\"unfinished"
    assert Hiding(KEY).text(text) == text


def test_keys_give_other_hashes_and_a_random_key_is_of_one_process() -> None:
    assert Hiding(KEY).device(DEVICE.bytes) == HASHED
    assert hiding(RANDOM).device(DEVICE.bytes) != hiding(RANDOM).device(DEVICE.bytes)


def test_key_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY + b"\n")
    assert hiding(str(file)).device(DEVICE.bytes) == HASHED


@pytest.mark.parametrize(("content", "said"), [(b"short", "holds 5 bytes"), (None, "cannot read")])
def test_key_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WrongSetting, match=said):
        hiding(str(file))


def test_log_line_hides_ids_in_event_extra_and_traceback() -> None:
    try:
        raise KeyError(DEVICE.bytes)
    except KeyError as error:
        record = logging.LogRecord("x", logging.ERROR, "x", 1, "lost %s", (DEVICE,), (type(error), error, None))
    record.why, record.count, record.nothing = f"of {DEVICE}", 3, None
    record.trace_id = DEVICE.hex  # looks like one and is none
    text = JsonFormatter(Hiding(KEY)).format(record)
    line = json.loads(text)
    assert line["event"] == f"lost hashed:{HASHED}" and line["why"] == f"of hashed:{HASHED}"
    assert HASHED in line["traceback"]
    assert (line["count"], line["nothing"], line["trace_id"]) == (3, None, DEVICE.hex)


def test_access_log_names_a_device_by_its_hash() -> None:
    out = io.StringIO()
    log = AccessLog(Hiding(KEY), out)
    log.write(AccessRecord(1.0, str(DEVICE), "DELETE", f"/api/v1/devices/{DEVICE}", 204, 0.5, 0, 0, "", DEVICE.bytes))
    log.start()
    log.stop()
    line = json.loads(out.getvalue())
    assert line["device"] == HASHED
    assert (line["path"], line["request_id"]) == (f"/api/v1/devices/hashed:{HASHED}", f"hashed:{HASHED}")
