"""What noised releases cost, and a budget that they keep. Pure: the ledger is given, the new entry is returned.

Releases are accounted for as Gaussian mechanisms by Renyi differential privacy (Mironov 2017), which holds for discrete
Gaussians as they stand (Canonne, Kamath and Steinke 2020), with Google's dp-accounting. Called by the worker, which
stores the entry and the result in one transaction: what was drawn once is never drawn again.
"""

from collections import Counter
from collections.abc import Sequence

import dp_accounting
import msgspec
from dp_accounting.rdp import RdpAccountant

from constellation.federation.terms import Noise
from constellation.rounds import Privacy

_MULTIPLIER_TOLERANCE = 1e-3


class Release(msgspec.Struct, frozen=True):
    """An entry of the ledger. `at`: unix seconds; the others as of `Noise`."""

    at: int
    multiplier: float
    names_delta: float


class BudgetSpent(Exception):
    """The next release would exceed the budget. `frees_at`: unix seconds at which it fits, None if it never does."""

    def __init__(self, why: str, frees_at: int | None) -> None:
        super().__init__(why)
        self.frees_at = frees_at


class PrivacyBudget(msgspec.Struct, frozen=True):
    """All releases of any `window_s` seconds together are (epsilon, delta)-differentially private."""

    epsilon: float
    delta: float
    window_s: int

    def admit(self, ledger: Sequence[Release], noise: Noise, at: int) -> Release:
        """The entry of a release at that time, after those of the ledger. Raises `BudgetSpent`."""
        release = Release(at, noise.multiplier, noise.names_delta)
        within = sorted((one for one in ledger if one.at > at - self.window_s), key=lambda one: one.at)
        if self._holds([*within, release]):
            return release
        kept = (
            one.at + self.window_s for number, one in enumerate(within, 1) if self._holds([*within[number:], release])
        )
        frees_at = next(kept, None)
        when = (
            "this release alone exceeds it" if frees_at is None else f"the next one fits at {frees_at} (unix seconds)"
        )
        raise BudgetSpent(
            f"the privacy budget is epsilon {self.epsilon:g} at delta {self.delta:g} in {self.window_s} s, of which "
            f"{len(within)} releases have spent {self.spent(within):.3g}; another would make it "
            f"{self.spent([*within, release]):.3g}: {when}",
            frees_at,
        )

    def spent(self, releases: Sequence[Release]) -> float:
        """Epsilon of the releases together at this delta; infinite if their names alone take all of delta."""
        delta = self.delta - sum(release.names_delta for release in releases)
        return _epsilon([release.multiplier for release in releases], delta) if delta > 0 else float("inf")

    def _holds(self, releases: Sequence[Release]) -> bool:
        return self.spent(releases) <= self.epsilon


def calibrated(privacy: Privacy) -> Noise:
    """The least noise with which one release is that private: half of delta is for the noise, half for names."""
    low, high = 0.0, 1.0
    while _epsilon([high], privacy.delta / 2) > privacy.epsilon:
        low, high = high, 2 * high
    while high - low > _MULTIPLIER_TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _epsilon([middle], privacy.delta / 2) > privacy.epsilon else (low, middle)
    return Noise(high, privacy)


def _epsilon(multipliers: Sequence[float], delta: float) -> float:
    accountant = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for multiplier, count in Counter(multipliers).items():
        accountant.compose(dp_accounting.GaussianDpEvent(multiplier), count)
    return float(accountant.get_epsilon(delta))
