"""A small fleet against a real shard: no errors, trends that name films, patterns that resemble tastes."""

import io
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from constellation import catalogue
from constellation.cli import fleet as fleet_command
from constellation.cli.main import main
from constellation.client import Refused, Unreachable
from constellation.fleet import films
from constellation.fleet.run import Plan, run
from constellation.identity import Issuer
from tests.api.process import serving
from tests.identity.fleet import Fleet


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as server:
        yield server.url


def test_small_fleet_syncs_without_errors_and_gets_what_it_likes(url: str) -> None:
    screen = Console(file=io.StringIO(), width=120)
    outcome = run(Plan(urls=(url,), devices=60, minutes=0.1, interval_s=1.0), screen)
    tally = outcome.tally
    assert tally.errors == {} and outcome.exit_code == 0
    assert tally.syncs >= 60 * 4
    assert tally.accepted["added"] >= 60 and tally.accepted["updated"] > 0 and tally.accepted["rejected"] == 0
    assert outcome.relevance.tvs == 60
    assert outcome.relevance.received_cosine > outcome.relevance.random_cosine
    titles = films.prepare(catalogue.load()).titles
    named = [titles[trend.content_id] for trend in tally.trending if trend.content_id in titles]
    assert len(named) >= 10
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert named[0] in text and "No errors." in text


def test_catalogue_is_content_of_the_shard_afterwards(url: str) -> None:
    run(Plan(urls=(url,), devices=1, minutes=0.01, interval_s=0.1), Console(file=io.StringIO()))
    with urllib.request.urlopen(f"{url}/api/v1/content/film:the-dark-knight-2008", timeout=10) as response:
        item = json.load(response)
    assert item["title"] == "The Dark Knight"
    assert item["metadata"] == {"genre": "Action", "year": 2008, "duration_min": 152}


def test_fleet_with_the_private_key_is_known_where_tokens_are_asked_for(tmp_path: Path) -> None:
    keys = Fleet(tmp_path)
    screen = Console(file=io.StringIO(), width=120)
    with serving(*keys.options) as server:
        plan = Plan(urls=(server.url,), devices=20, minutes=0.05, interval_s=1.0)
        with pytest.raises(Refused, match="401 unauthenticated"):
            run(plan, screen)
        outcome = run(msgspec.structs.replace(plan, issuer=Issuer(keys.key)), screen)
    assert outcome.tally.errors == {} and outcome.tally.syncs >= 20
    assert outcome.tally.trending, "the catalogue was taken"


def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        run(Plan(urls=("http://127.0.0.1:1",), devices=1, minutes=0.01), Console(file=io.StringIO()))


def test_failed_run_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "--url", "http://127.0.0.1:1", "--devices", "1"]) == 1
    assert "constellation fleet: http://127.0.0.1:1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--devices", "0", "a whole number from 1 to 100000"),
        ("--devices", "many", "a whole number from 1 to 100000"),
        ("--minutes", "nan", "a number from 0.01 to 100000"),
        ("--rate", "-1", "a number from 0.01 to 100000"),
    ],
)
def test_wrong_option_names_itself_what_came_and_what_is_allowed(
    option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fleet", f"{option}={value}"])
    assert stopped.value.code == 2
    assert f"argument {option}: got {value!r}; allowed: {allowed}" in capsys.readouterr().err


def test_rate_and_interval_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fleet", "--rate", "5", "--interval", "5"])
    assert "not allowed with" in capsys.readouterr().err


def test_fleet_offers_at_most_a_shards_share_unless_told() -> None:
    assert Plan(urls=("",), devices=10, minutes=1).mean_interval_s == 5
    assert Plan(urls=("",), devices=15_000, minutes=1).mean_interval_s == 100
    assert fleet_command.DEVICES_MAX >= 15_000
