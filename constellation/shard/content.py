"""Titles that trends may name, and which of them a pattern is about.

The one module that touches usearch: an in-process HNSW graph over the items' int8 codes finds the nearest item. An
item that is posted anew gets a new node, the old one is a tombstone; the graph is rebuilt, a few items a step, when
a tenth of it is dead (removing nodes from a graph costs recall). Owned by the shard.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from usearch.index import Index

from constellation.errors import NotFound, ShardFull
from constellation.limits import RETRY_AFTER_S
from constellation.model import DIM, ContentItem

CREDIT_COSINE_MIN = 0.6
"""A pattern is about an item only if it is at least this close."""
_FOUND = 8
_DEAD_SHARE = 10
_REBUILT_PER_STEP = 8
_RESTORED_PER_STEP = 64

Vector = npt.NDArray[np.int8]


class Content:
    """Up to `capacity` items by id; the item's number is its place among all trends."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._numbers: dict[str, int] = {}
        self._items: list[ContentItem] = []
        self._graph = Graph()
        self._next: Graph | None = None
        self._copied = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, content_id: str) -> bool:
        return content_id in self._numbers

    def get(self, content_id: str) -> ContentItem:
        """Raises NotFound."""
        number = self._numbers.get(content_id)
        if number is None:
            raise NotFound(f"no content has the id {content_id!r}")
        return self._items[number]

    def item(self, number: int) -> ContentItem:
        return self._items[number]

    def name(self, number: int) -> str:
        return self._items[number].content_id

    def put(self, item: ContentItem) -> int:
        """Enter an item, or replace the one of its id; returns its number. Raises ShardFull."""
        number = self._numbers.get(item.content_id)
        if number is None:
            if len(self._items) >= self._capacity:
                raise ShardFull(f"{self._capacity} content items are stored, no more fit", retry_after_s=RETRY_AFTER_S)
            number = self._numbers[item.content_id] = len(self._items)
            self._items.append(item)
        else:
            self._items[number] = item
        self._graph.put(number, item.code)
        if self._next is not None and number < self._copied:
            self._next.put(number, item.code)
        return number

    def restore(self, number: int, item: ContentItem) -> None:
        """Enter the item of this number, or replace it; `nearest` does not know it before `rebuild`."""
        if number == len(self._items):
            self._numbers[item.content_id] = number
            self._items.append(item)
        else:
            assert self._items[number].content_id == item.content_id
            self._items[number] = item

    def rebuild(self) -> Iterator[None]:
        """Make the graph anew, in steps of a few milliseconds; nothing is put meanwhile."""
        self._graph = Graph()
        for start in range(0, len(self._items), _RESTORED_PER_STEP):
            self._graph.put_new(start, self._items[start : start + _RESTORED_PER_STEP])
            yield

    def nearest(self, code: Vector) -> int | None:
        """Number of the item that a pattern with this code is about, if any is close enough."""
        return self._graph.nearest(code)

    def most_like(self, code: Vector, k: int) -> list[ContentItem]:
        """Up to k items, best first, however far they are."""
        return [self._items[number] for number in self._graph.most_like(code, k)]

    def maintain(self) -> bool:
        """One step of the rebuild, if one is called for; True if more is waiting."""
        if self._next is None:
            if self._graph.dead * _DEAD_SHARE <= len(self._items):
                return False
            self._next, self._copied = Graph(), 0
        stop = min(self._copied + _REBUILT_PER_STEP, len(self._items))
        for number in range(self._copied, stop):
            self._next.put(number, self._items[number].code)
        self._copied = stop
        if stop == len(self._items):
            self._graph, self._next = self._next, None
        return self._next is not None


class Graph:
    """usearch over codes. A node's key is its order of arrival; `numbers` tells whose code it is, -1 if superseded."""

    def __init__(self) -> None:
        self._index = Index(
            ndim=DIM,
            metric="cos",
            dtype="i8",
            connectivity=16,
            expansion_add=64,
            expansion_search=32,
            enable_key_lookups=False,
        )
        self._numbers: list[int] = []
        self._node_of: dict[int, int] = {}
        self.dead = 0

    def put(self, number: int, code: Vector) -> None:
        superseded = self._node_of.get(number)
        if superseded is not None:
            self._numbers[superseded] = -1
            self.dead += 1
        node = self._node_of[number] = len(self._numbers)
        self._numbers.append(number)
        self._index.add(node, code, threads=1)

    def put_new(self, first: int, items: list[ContentItem]) -> None:
        """As `put` for items of the numbers from `first` on, of which none is there; on all cores."""
        nodes = range(len(self._numbers), len(self._numbers) + len(items))
        numbers = range(first, first + len(items))
        self._numbers += numbers
        self._node_of.update(zip(numbers, nodes, strict=True))
        self._index.add(np.array(nodes), np.stack([item.code for item in items]))

    def most_like(self, code: Vector, k: int) -> list[int]:
        """Numbers of up to k live items; fewer where tombstones lie among the nearest."""
        if not self._numbers:
            return []
        found = self._index.search(code, min(2 * k, len(self._numbers)), threads=1)
        return [number for node in found.keys.tolist() if (number := self._numbers[node]) >= 0][:k]

    def nearest(self, code: Vector) -> int | None:
        """Number of the nearest live item, if it is close enough. Where tombstones lie before it, asks for more."""
        wanted = min(_FOUND, len(self._numbers))
        while wanted:
            found = self._index.search(code, wanted, threads=1)
            for node, distance in zip(found.keys.tolist(), found.distances.tolist(), strict=True):
                number: int = self._numbers[node]
                if distance > 1 - CREDIT_COSINE_MIN:
                    return None
                if number >= 0:
                    return number
            wanted = min(8 * wanted, len(self._numbers)) if wanted < len(self._numbers) else 0
        return None
