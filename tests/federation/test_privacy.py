"""What releases cost together, and a budget that the next one does not fit into."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.federation.privacy import BudgetSpent, PrivacyBudget, Release, calibrated
from constellation.rounds import Privacy

HOUR_S, DAY_S = 3_600, 86_400
NOISE = calibrated(Privacy(1.0, 1e-9))
BUDGET = PrivacyBudget(epsilon=3.0, delta=1e-7, window_s=DAY_S)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_noise_is_calibrated_to_one_release(epsilon: float) -> None:
    """No more than what the analysis of the Gaussian mechanism by Renyi divergence allows, and nearly all of it.

    Mironov 2017: (alpha, alpha / (2 multiplier^2)) in Renyi divergence is epsilon plus log(1 / delta) / (alpha - 1).
    """
    delta = 1e-9
    noise = calibrated(Privacy(epsilon, delta))
    rho = 1 / (2 * noise.multiplier**2)
    loosest = rho + 2 * math.sqrt(rho * math.log(2 / delta))
    assert 0.8 * loosest < epsilon < 1.001 * loosest
    assert PrivacyBudget(epsilon, delta, DAY_S).admit([], noise, 0) == Release(0, noise.multiplier, delta / 2)


def test_more_releases_cost_more_but_less_than_their_sum() -> None:
    one = Release(0, NOISE.multiplier, NOISE.names_delta)
    spent = [BUDGET.spent([one] * count) for count in range(10)]
    assert spent[0] == 0 and spent == sorted(set(spent))
    assert spent[9] < 9 * spent[1]


@given(st.lists(st.floats(0.5, 50), min_size=1, max_size=6), st.floats(0.5, 50))
@settings(max_examples=40)
def test_composition_is_monotone_and_has_no_order(multipliers: list[float], more: float) -> None:
    releases = [Release(0, multiplier, 1e-12) for multiplier in multipliers]
    spent = BUDGET.spent(releases)
    assert BUDGET.spent([*releases, Release(0, more, 1e-12)]) >= spent
    assert BUDGET.spent(releases[::-1]) == pytest.approx(spent, rel=1e-12)
    assert spent >= max(BUDGET.spent([release]) for release in releases)


def test_budget_refuses_what_would_exceed_it_and_says_when_it_fits() -> None:
    ledger: list[Release] = []
    with pytest.raises(BudgetSpent, match="the privacy budget is epsilon 3 at delta 1e-07 in 86400 s") as refused:
        for at in range(0, DAY_S, HOUR_S):
            ledger.append(BUDGET.admit(ledger, NOISE, at))
    assert refused.value.frees_at == DAY_S
    assert f"{len(ledger)} releases have spent {BUDGET.spent(ledger):.3g}" in str(refused.value)
    with pytest.raises(BudgetSpent):
        BUDGET.admit(ledger, NOISE, DAY_S - 1)
    assert BUDGET.admit(ledger, NOISE, DAY_S).at == DAY_S


def test_a_release_that_never_fits_says_so() -> None:
    for privacy in (Privacy(4.0, 1e-9), Privacy(1.0, 1e-6)):
        with pytest.raises(BudgetSpent, match="this release alone exceeds it") as refused:
            BUDGET.admit([], calibrated(privacy), 0)
        assert refused.value.frees_at is None


def test_names_use_up_delta() -> None:
    releases = [Release(0, 1e6, BUDGET.delta / 4)] * 4
    assert BUDGET.spent(releases[:3]) < 0.1
    assert BUDGET.spent(releases) == math.inf
