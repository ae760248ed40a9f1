"""One question as a picture: every row a bar, as long as the logarithm of its ratio to its yardstick; SVG, by hand.

Bars to the right of the line are more than the yardstick, to the left less; a small mark is the target. Rows without a
yardstick are written, not drawn. Readable in the light and in the dark.
"""

import math
from collections.abc import Iterator
from html import escape

from bench.report import Row, Section, format_value

WIDTH, LINE, TOP = 1_000, 22, 46
_NAMES, _BARS, _VALUES = 400, 300, 720
"""Where names end, how wide all bars are, where values begin."""
_NAME_LETTERS = 62
_DECADES_MIN = 1.0
_STYLE = """<style>
text { font: 12px sans-serif; fill: #222 } .title { font-weight: bold; font-size: 14px } .faint { fill: #777 }
.axis { stroke: #888 } .pass { fill: #2f8f4e } .fail { fill: #c0392b } .plain { fill: #5b7fa6 } .target { stroke: #222 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .faint { fill: #999 } .target { stroke: #eee } }
</style>"""


def draw(section: Section) -> str:
    """The whole SVG file."""
    decades = max([_DECADES_MIN, *(abs(_log(row.ratio)) for row in section.rows)])
    height = TOP + LINE * len(section.rows) + 10
    middle = _NAMES + 10 + _BARS / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
        _STYLE,
        f'<text class="title" x="10" y="20">{escape(f"{section.question}: {section.title}")}</text>',
        f'<text class="faint" x="{middle}" y="38" text-anchor="middle">less &#8592; yardstick &#8594; more, '
        f"whole width 10^&#177;{decades:.1f}</text>",
        f'<line class="axis" x1="{middle}" x2="{middle}" y1="{TOP}" y2="{height - 8}"/>',
    ]
    for number, row in enumerate(section.rows):
        lines += _row(row, TOP + LINE * number, middle, _BARS / 2 / decades)
    return "\n".join([*lines, "</svg>\n"])


def _row(row: Row, top: float, middle: float, a_decade: float) -> Iterator[str]:
    base = top + LINE - 7
    yield f'<text x="{_NAMES}" y="{base}" text-anchor="end">{escape(_shortened(row.name))}</text>'
    kind = "plain" if row.passed is None else "pass" if row.passed else "fail"
    if row.ratio is not None:
        length = _log(row.ratio) * a_decade
        left = middle + min(0.0, length)
        yield f'<rect class="{kind}" x="{left:.1f}" y="{top + 4}" width="{max(1.0, abs(length)):.1f}" height="14"/>'
    target = _target_ratio(row)
    if target is not None and abs(_log(target)) * a_decade <= _BARS / 2:
        at = middle + _log(target) * a_decade
        yield f'<line class="target" x1="{at:.1f}" x2="{at:.1f}" y1="{top + 2}" y2="{top + 20}" stroke-width="2"/>'
    beside = f" ({row.yardstick.name}: {format_value(row.yardstick.value, row.unit)})" if row.yardstick else ""
    yield f'<text x="{_VALUES}" y="{base}">{escape(format_value(row.value, row.unit))}'
    yield f'<tspan class="faint">{escape(beside)}</tspan></text>'


def _target_ratio(row: Row) -> float | None:
    """Where the target is, in terms of the yardstick."""
    if row.target is None or row.yardstick is None or not row.yardstick.value:
        return None
    return row.target.limit if row.target.of == "ratio" else row.target.limit / row.yardstick.value


def _log(ratio: float | None) -> float:
    return math.log10(ratio) if ratio else 0.0


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…"
