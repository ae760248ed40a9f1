"""What docs/grpc.md says is so: its example runs, its words are those of the code."""

import re
from pathlib import Path

import pytest

from constellation.api.grpc import sync_pb2 as pb
from constellation.api.grpc.problems import status_of
from tests.api.grpc.test_problems import kinds
from tests.api.process import Server

PAGE = (Path(__file__).resolve().parents[3] / "docs/grpc.md").read_text()


def test_pasted_python_pushes(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    exec(block.replace("127.0.0.1:50051", server.grpc), {})
    assert capsys.readouterr().out.startswith("1 ")


def test_every_code_stands_beside_its_status() -> None:
    rows = {row[0]: row[1] for row in re.findall(r"^\| (`[A-Z_`, ]+`) \| (.*) \|$", PAGE, re.M)}
    for kind in kinds():
        if "code" not in vars(kind) or kind.code in ("method_not_allowed", "unsupported_media_type"):
            continue  # those are of HTTP alone
        if kind.code in ("invalid_content", "unknown_dictionary"):
            continue
        problem = kind.__new__(kind)
        (told,) = (codes for status, codes in rows.items() if f"`{status_of(problem).name}`" in status)
        assert f"`{kind.code}`" in told, kind


def test_every_call_is_named() -> None:
    for method in pb.DESCRIPTOR.services_by_name["SyncService"].methods:
        assert f"| `{method.name}` |" in PAGE
