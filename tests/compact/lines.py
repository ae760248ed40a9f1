"""What a block says, as lines of text: the one form in which decoders are compared. `decode.c` prints the same.

`similar N`, then of each pattern: handle, rate in 255ths, count, days of creation and update, 1 for a prototype, its
occasion, its genre hints each behind a comma, its code; strings and codes in hex. `trends N`, then of each: score in
255ths, region, content id.
"""

from typing import Literal

import numpy as np

from constellation.errors import InvalidPattern, Problem
from constellation.limits import DAY_S
from constellation.model import Trend
from constellation.wire import compact
from constellation.wire.compact import Held, Similar
from constellation.wire.reading import refusal

Kind = Literal["s", "t"]
REFUSED = ["refused"]

_refuse = refusal(InvalidPattern)


def decoded(kind: Kind, block: bytes, held: Held) -> list[str]:
    """By the Python decoder."""
    try:
        if kind == "s":
            return of_similar(compact.read_similar(block, held, "similar", _refuse))
        return of_trends(compact.read_trends(block, "trends", _refuse))
    except Problem:
        return REFUSED


def of_similar(similar: Similar) -> list[str]:
    lines = [f"similar {len(similar.handles)}"]
    for i, context in enumerate(similar.contexts):
        numbers = (
            *(similar.handles[i], round(float(similar.rates[i]) * 255), similar.counts[i]),
            *(similar.created_at[i] // DAY_S, similar.updated_at[i] // DAY_S, int(similar.prototypes[i])),
        )
        occasion = ",".join(map(_hex, (context.time_of_day, context.day_of_week, context.content_type)))
        hints = "".join(f",{_hex(hint)}" for hint in context.genre_hints)
        code = similar.codes[i].tobytes().hex() if similar.whole[i] else ""
        lines.append(f"{' '.join(map(str, numbers))} {occasion} {hints} {code}")
    return lines


def of_trends(trends: list[Trend]) -> list[str]:
    lines = [f"trends {len(trends)}"]
    for trend in trends:
        score = int(np.rint(trend.trending_score * 255))
        lines.append(f"{score} {_hex(trend.region)} {_hex(trend.content_id)}")
    return lines


def _hex(text: str) -> str:
    return text.encode().hex()
