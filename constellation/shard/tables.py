"""All state of a shard in one place: what its rules (`taking`) change and its questions (`asking`) read."""

from constellation.config import Settings
from constellation.limits import ADDED_PER_DELTA_MAX, CONTENT_ITEMS_MAX
from constellation.shard.best_known import BestKnown
from constellation.shard.changes import Changes
from constellation.shard.content import Content
from constellation.shard.cursors import Cursors
from constellation.shard.devices import Devices
from constellation.shard.interests import Interests
from constellation.shard.patterns import Patterns
from constellation.shard.prototypes import PrototypeTable
from constellation.shard.rankings import Rankings
from constellation.shard.similarity import SimilarityIndex
from constellation.shard.trends import Trends


class Tables:
    """The tables, empty at first, bounded by the settings. `seed` places keys in memory, no more."""

    def __init__(self, settings: Settings, seed: int) -> None:
        # A delta's patterns are all stored before the lightest go: for a moment there are so many more.
        rows = settings.max_patterns + ADDED_PER_DELTA_MAX
        self.devices = Devices(settings.max_devices, seed)
        self.patterns = Patterns(rows, seed)
        self.index = SimilarityIndex(self.patterns.codes, self.patterns.inverse)
        self.best_known = BestKnown(rows)
        self.content = Content(CONTENT_ITEMS_MAX)
        self.trends = Trends(CONTENT_ITEMS_MAX, settings.region, shares_own=settings.sharing != "aggregates")
        self.prototypes = PrototypeTable(settings.serve_threshold)
        self.cursors = Cursors(settings, self.patterns, self.prototypes)
        self.interests = Interests(self.devices, self.patterns, self.index)
        self.rankings = Rankings(settings, self.interests, self.patterns, self.index, self.prototypes)
        self.changes = Changes(self.devices, self.patterns, self.content, self.trends)
