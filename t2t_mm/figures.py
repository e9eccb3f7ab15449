"""Drawings for the report: curves and trees as SVG that follows the page's colours.

Every colour is a CSS variable of the page, so that one drawing fits light and dark.
Called by `report`; needs matplotlib (curves) and nothing else.
"""

import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from t2t_mm import trees
from t2t_mm.run_history import Curve

# Colours that nobody would choose stand in for CSS variables while matplotlib draws.
_STAND_INS = {
    "ink": "#010203",
    "muted": "#010204",
    "line": "#010205",
    "accent": "#010206",
    "quiet": "#010207",
    "paper": "#010208",
}


@dataclass(frozen=True)
class Line:
    """A curve of a chart: its name, its points and the CSS variable of its colour."""

    label: str
    curve: Curve
    colour: str


def line_chart(
    lines: Sequence[Line], *, last_step: int, percent: bool, prefix: str
) -> str:
    """Draws values over steps, both axes from 0 on.

    Args:
      lines: at least one, none of them empty; the last is drawn on top.
      last_step: where the axis of steps ends.
      percent: the values are shares of 1 and shown as percent.
      prefix: starts the ids in the SVG; another one for each chart of a page.

    Returns:
      An `<svg>` element.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": 8.5}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.4, 2.0), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot(facecolor="none")
        _draw(axes, lines, percent)
        axes.set_xlim(0, max(last_step, 1) * 1.02)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _themed(buffer.getvalue(), prefix)


def _draw(axes: Any, lines: Sequence[Line], percent: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    scale = 100.0 if percent else 1.0
    lowest = 0.0
    for line in lines:
        values = [scale * value for value in line.curve.values]
        lowest = min(lowest, *values)
        axes.plot(
            line.curve.steps,
            values,
            color=_STAND_INS[line.colour],
            linewidth=2.0 if line is lines[-1] else 1.4,
            marker="o" if len(values) == 1 else None,
            solid_capstyle="round",
        )
    axes.set_ylim(bottom=lowest)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_STAND_INS["line"])
    axes.tick_params(colors=_STAND_INS["muted"], length=0, pad=4)
    axes.grid(axis="y", color=_STAND_INS["line"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda x, _: _short_number(x))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}{' %' if percent else ''}")


def _short_number(value: float) -> str:
    if abs(value) < 10_000:
        return f"{value:.0f}"
    return f"{value / 1000:g}k"


def _themed(svg: str, prefix: str) -> str:
    """Puts CSS variables in place of colours and makes ids unique in the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->|<style.*?</style>", "", svg, flags=re.DOTALL)
    for name, colour in _STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r' width="[\d.]+pt" height="[\d.]+pt"', ' class="chart"', svg, count=1)
    svg = re.sub(r" font-family: [^;]*;", "", svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))

    def renamed(match: re.Match) -> str:
        return f' id="{prefix}-{match[1]}"' if match[1] in used else ""

    svg = re.sub(r' id="([^"]+)"', renamed, svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", svg)
    return re.sub(r"\n\s*", "\n", svg)


# Trees

_GAP, _LEVEL, _LETTER, _WORD = 10.0, 34.0, 7.2, 16.0


def tree_drawing(text: str, reference: str, sentence: str = "") -> str | None:
    """Draws a linearised tree; brackets that the reference has not stand out.

    Args:
      text: the tree to draw.
      reference: the right one; give `text` itself to mark nothing.
      sentence: its words are written below the leaves if there are as many.

    Returns:
      An `<svg>` element, or None where the text is no well-formed tree.
    """
    try:
        tree = trees.parse(text)
    except ValueError:
        return None
    words = _words_for(tree.leaves(), sentence)
    drawing = _TreeDrawing(trees.spans(reference), words)
    drawing.add(tree, x=0.0, level=0)
    width = drawing.width(tree, 0)
    height = _LEVEL * (tree.depth() + 1) + (_WORD if any(words) else 0)
    return (
        f'<svg class="tree" role="img" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}"><title>{escape(text)}</title>'
        f"{''.join(drawing.parts)}</svg>"
    )


def _words_for(leaves: Sequence[str], sentence: str) -> Sequence[str]:
    """Cuts a sentence into a word for each leaf, or gives empty words."""
    for word in (r"\S+", r"\w+|[^\w\s]", r"'?\w+|[^\w\s]"):
        words = re.findall(word, sentence)
        if len(words) == len(leaves):
            return words
    return [""] * len(leaves)


class _TreeDrawing:
    """Collects the pieces of a drawing from left to right.

    Args:
      expected: brackets that are right; each is used up by the first that matches.
      words: what is written below each leaf.
    """

    def __init__(self, expected: Counter[trees.Span], words: Sequence[str]):
        self.expected = expected
        self.words = words
        self.parts: list[str] = []
        self.num_leaves = 0
        self.num_scored = 0

    def width(self, node: trees.Tree | str, first_leaf: int) -> float:
        """Gives the room that a node needs whose first leaf has that number."""
        if isinstance(node, str):
            letters = max(len(node), len(self.words[first_leaf]))
            return _LETTER * letters + _GAP
        return max(
            _LETTER * len(node.label) + _GAP, sum(self._widths(node, first_leaf))
        )

    def _widths(self, tree: trees.Tree, first_leaf: int) -> list[float]:
        widths = []
        for child in tree.children:
            widths.append(self.width(child, first_leaf))
            first_leaf += 1 if isinstance(child, str) else len(child.leaves())
        return widths

    def add(self, node: trees.Tree | str, *, x: float, level: int) -> float:
        """Draws what hangs on a node into the space from x on; gives its middle."""
        if isinstance(node, str):
            return self._add_leaf(node, x, level)
        first_leaf, first_scored = self.num_leaves, self.num_scored
        widths = self._widths(node, first_leaf)
        x += (self.width(node, first_leaf) - sum(widths)) / 2
        middles = []
        for child, width in zip(node.children, widths, strict=True):
            middles.append(self.add(child, x=x, level=level + 1))
            x += width
        middle = (middles[0] + middles[-1]) / 2
        top, bottom = _LEVEL * level + 24, _LEVEL * (level + 1) + 7
        self.parts += [
            f'<path d="M{middle:.1f} {top:.0f}L{m:.1f} {bottom:.0f}"/>' for m in middles
        ]
        is_right = self._take(node.label, first_scored)
        css_class = "bracket" if is_right else "bracket wrong"
        self._write(node.label, css_class, middle, _LEVEL * level)
        return middle

    def _add_leaf(self, tag: str, x: float, level: int) -> float:
        middle = x + self.width(tag, self.num_leaves) / 2
        word = self.words[self.num_leaves]
        self._write(tag, "leaf", middle, _LEVEL * level)
        if word:
            self._write(word, "word", middle, _LEVEL * level + _WORD)
        self.num_leaves += 1
        self.num_scored += tag not in trees.UNSCORED_LEAVES
        return middle

    def _write(self, text: str, css_class: str, middle: float, top: float) -> None:
        self.parts.append(
            f'<text class="{css_class}" x="{middle:.1f}" y="{top + 19:.0f}">'
            f"{escape(text)}</text>"
        )

    def _take(self, label: str, first_scored: int) -> bool:
        if first_scored == self.num_scored or label in trees.WRAPPER_LABELS:
            return True
        span = (trees.SAME_LABELS.get(label, label), first_scored, self.num_scored)
        self.expected[span] -= 1
        return self.expected[span] >= 0
