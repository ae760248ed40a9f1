"""What a round is held to: which shards are asked for what, and how many must stand behind anything it publishes."""

import msgspec
import numpy as np
import numpy.typing as npt

from constellation.limits import AGGREGATES_DEVICES_MIN
from constellation.rounds import GLOBAL, Privacy, Sharing

HOUR_S = 3_600
MIN_DEVICES: dict[Sharing, int] = {"patterns": 1, "aggregates": AGGREGATES_DEVICES_MIN}
"""`RoundTerms.min_devices` where nothing else was chosen."""


class RefusedPartial(Exception):
    """A partial that does not belong into this round, or that cannot be true. Nothing of it was merged."""

    def __init__(self, shard_id: str, why: str) -> None:
        super().__init__(f"the partial of shard {shard_id!r} is refused: {why}")
        self.shard_id = shard_id


class Noise(msgspec.Struct, frozen=True):
    """How much noise a release has: sigma is `multiplier` times what a device changes, taken over all fields at once.

    Made by `privacy.calibrated`, so that the release is as private as `privacy` says.
    """

    multiplier: float
    privacy: Privacy

    @property
    def names_delta(self) -> float:
        """The part of delta that is left for names of which only one device knows: that one gets through."""
        return self.privacy.delta / 2


class RoundTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed when a round is opened. `at`: unix seconds; `buckets`: centroids of the codebook; `shards`: every shard
    that has slots, whether it will report or not, with its region."""

    round: int
    at: int
    map_epoch: int
    codebook_version: int
    buckets: int
    shards: dict[str, str]
    sharing: Sharing = "patterns"
    min_source_count: int = 3
    min_devices: int = 1
    trends_max: int = 1_000
    """Items published of a region."""
    noise: Noise | None = None
    """Only of aggregates, and of the plain mean."""
    group_key: bytes = b""
    """Secret, drawn for this round: shards deal their devices into groups by it, and a prototype is the geometric
    median of the groups' means (`robust`); trends count devices. Without one it is the mean of all devices, and trends
    count samples."""

    def __post_init__(self) -> None:
        assert GLOBAL not in self.shards.values()
        assert min(self.buckets, self.min_source_count, self.min_devices) > 0
        assert self.noise is None or (self.sharing == "aggregates" and not self.group_key)

    @property
    def hour(self) -> int:
        """The last hour that trends count."""
        return self.at // HOUR_S

    def backed(
        self, sources: npt.NDArray[np.int64], devices: npt.NDArray[np.int64], shards: int
    ) -> npt.NDArray[np.bool_]:
        """Which of n things may be published, reported by sources (n,) of that many shards and devices (n,).

        Where there are fewer shards than `min_source_count`, all of them must report it, and as many distinct devices
        as there should be shards.
        """
        devices_min = self.min_devices
        if shards < self.min_source_count:
            devices_min = max(devices_min, self.min_source_count)
        return (sources >= min(shards, self.min_source_count)) & (devices >= devices_min)
