"""A fleet shared out over processes is one fleet: every TV once, one tally, nothing lost."""

import io
import pickle
from pathlib import Path

import jwt
from rich.console import Console

from constellation.fleet.latencies import Latencies
from constellation.fleet.processes import run_shared, shares
from constellation.fleet.run import Plan
from constellation.fleet.traffic import ERRORS_KEPT_MAX, Tally
from constellation.identity import DEVICE, make_keys, read_issuer
from tests.api.process import serving


def test_every_tv_is_in_one_share_and_keeps_its_pace() -> None:
    plan = Plan(urls=("http://127.0.0.1:1",), devices=10, minutes=1, interval_s=7)
    parts = shares(plan, 3)
    numbers = [number for part in parts for number in range(part.first, part.first + part.devices)]
    assert numbers == list(range(10))
    assert {part.mean_interval_s for part in parts} == {7}


def test_pace_that_is_not_given_is_that_of_all_tvs_together() -> None:
    plan = Plan(urls=("http://127.0.0.1:1",), devices=3_000, minutes=1)
    assert {part.mean_interval_s for part in shares(plan, 4)} == {plan.mean_interval_s}


def test_issuer_of_tokens_goes_to_every_process(tmp_path: Path) -> None:
    make_keys(tmp_path / "key.pem", tmp_path / "keys.jwks")
    issuer = read_issuer(tmp_path / "key.pem", "tvs")
    here, there = (each.issue("tv", [DEVICE], 60, "1") for each in (issuer, pickle.loads(pickle.dumps(issuer))))
    assert jwt.get_unverified_header(here) == jwt.get_unverified_header(there)
    assert jwt.decode(there, options={"verify_signature": False})["aud"] == "tvs"


def test_merged_latencies_are_those_of_one_who_saw_all() -> None:
    durations = [0.001 * (number % 97 + 1) for number in range(500)]
    one, other, both = Latencies(), Latencies(), Latencies()
    for number, duration in enumerate(durations):
        (one if number % 3 else other).observe(duration)
        both.observe(duration)
    one.merge(other)
    assert one.count == both.count and one.longest_s == both.longest_s
    assert [one.quantile_s(q / 100) for q in range(101)] == [both.quantile_s(q / 100) for q in range(101)]


def test_merged_tally_keeps_few_texts_of_errors_and_all_of_their_number() -> None:
    tally, other = Tally(), Tally()
    for number in range(ERRORS_KEPT_MAX):
        tally.error(f"here {number}")
        other.error(f"there {number}", 2)
    tally.merge(other)
    assert tally.failed == 3 * ERRORS_KEPT_MAX
    assert len(tally.errors) == ERRORS_KEPT_MAX + 1


def test_two_processes_are_all_tvs_and_sum_up() -> None:
    screen = Console(file=io.StringIO(), width=120)
    with serving() as server:
        outcome = run_shared(Plan(urls=(server.url,), devices=20, minutes=0.05, interval_s=1.0), 2, screen)
    assert outcome.tally.errors == {} and outcome.exit_code == 0
    assert outcome.tally.syncs >= 20 and outcome.tally.accepted["added"] >= 20
    assert outcome.relevance.tvs == 20
