"""Answers as HTML and SVG for the page: texts, trees, bars.

Everything that comes from a user, the data or the network is escaped here. Colours and
sizes are in `templates/page.css`.
"""

import base64
import math
import re
from collections.abc import Sequence
from html import escape

from t2t_mm import figures
from t2t_mm.answers import Answer
from t2t_mm.problem import IMAGE, Problem
from t2t_mm.serving.gallery import Example

_MOST_LABELS = 8


def drawn_answer(
    answer: Answer, *, is_tree: bool, sentence: str = "", reference: str = ""
) -> str:
    """Draws one answer: a tree, label bars or a text; alternatives; the right answer.

    Args:
      answer: what the network said.
      is_tree: draws it as a tree, if it is a whole one.
      sentence: the input if it was text; its words go below the leaves of a tree.
      reference: the right answer, for examples of the data.
    """
    parts = [_headline(answer, is_tree, sentence)]
    if answer.ranked:
        parts.append(label_bars(answer.ranked))
    if reference:
        parts.append(_verdict(answer, reference, is_tree))
    if answer.alternatives:
        parts.append(_alternatives(answer))
    return f'<div class="mm-answer">{"".join(parts)}</div>'


def _headline(answer: Answer, is_tree: bool, sentence: str) -> str:
    if is_tree:
        drawing = figures.tree_drawing(answer.output, answer.output, _tokens(sentence))
        if drawing:
            return f'<div class="mm-tree">{drawing}</div>'
        return (
            f'<div class="mm-text">{escape(answer.output)}</div><div class="mm-note">'
            "No whole tree: some bracket is not closed, so it cannot be drawn.</div>"
        )
    text = escape(answer.output) or '<span class="mm-note">(nothing)</span>'
    return f'<div class="mm-text">{text}</div>'


def _tokens(sentence: str) -> str:
    """Sets punctuation apart, as the sentences of trees are tokenised."""
    return " ".join(re.findall(r"'?\w+|[^\w\s]", sentence))


def _verdict(answer: Answer, reference: str, is_tree: bool) -> str:
    if answer.output.split() == reference.split():
        return '<div class="mm-right">✓ as in the data</div>'
    if is_tree:
        return '<div class="mm-note">another tree than in the data</div>'
    return f'<div class="mm-note">in the data: {escape(reference)}</div>'


def _alternatives(answer: Answer) -> str:
    """Lists what else the search found, with how likely each text is."""
    rows = "".join(
        f"<li><span>{escape(one.output) or '(nothing)'}</span>"
        f"<b>{_certainty(one)}</b></li>"
        for one in answer.best_few
    )
    return (
        '<details class="mm-more"><summary>The best '
        f'{len(answer.best_few)} answers</summary><ol class="mm-best">{rows}</ol>'
        '<p class="mm-note">Ranked with a bonus for length; the numbers are '
        "logarithms of probabilities.</p></details>"
    )


def _certainty(answer: Answer) -> str:
    return f"{answer.score:.2f}" if math.isfinite(answer.score) else "none"


def label_bars(ranked: Sequence[tuple[str, float]]) -> str:
    """Draws a bar for each of the likeliest labels."""
    rows = [
        f'<div class="mm-bar"><span>{escape(label)}</span>'
        f'<i style="--share:{100 * min(max(p, 0.0), 1.0):.1f}%"></i>'
        f"<b>{100 * p:.1f} %</b></div>"
        for label, p in ranked[:_MOST_LABELS]
    ]
    return f'<div class="mm-bars">{"".join(rows)}</div>'


def drawn_error(text: str) -> str:
    """Draws why there is no answer."""
    return f'<div class="mm-error" role="alert">{escape(text)}</div>'


def drawn_card(
    title: str, example: Example, answer: Answer | str, *, is_tree: bool, number: int
) -> str:
    """Draws a card of the gallery: input, arrow, answer.

    Args:
      title: of the problem.
      example: what went in.
      answer: what came out, or why there is no answer.
      is_tree: draws the answer as a tree.
      number: of the card, for the script that sees clicks.
    """
    sentence = example.content if isinstance(example.content, str) else ""
    if isinstance(answer, str):
        drawn = f'<div class="mm-note">{escape(answer)}</div>'
    else:
        drawn = _headline(answer, is_tree, sentence)
        drawn += _verdict(answer, example.reference, is_tree)
    return (
        f'<article class="mm-card" tabindex="0" role="button" data-card="{number}">'
        f"<h3>{escape(title)}</h3>{drawn_input(example)}"
        f'<div class="mm-arrow">↓</div>{drawn}</article>'
    )


def drawn_input(example: Example) -> str:
    """Draws what went in: the text, the picture, or a player for the sound."""
    if isinstance(example.content, str):
        return f'<div class="mm-input">{escape(example.content)}</div>'
    is_picture = example.content[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0")
    kind = "image/png" if is_picture else "audio/wav"
    data = f"data:{kind};base64,{base64.b64encode(example.content).decode()}"
    if is_picture:
        return f'<img alt="a picture of the test split" src="{data}">'
    return f'<audio controls preload="metadata" src="{data}"></audio>'


def kind_of_file(problem: Problem) -> str:
    """Gives the suffix of a problem's input files."""
    return ".png" if problem.inputs.modality == IMAGE else ".wav"


def drawn_invitation() -> str:
    """Draws the place of an answer before anything was asked."""
    return '<div class="mm-answer mm-note">Give it something, then press Ask.</div>'


def drawn_gallery(cards: Sequence[str], note: str) -> str:
    """Draws all cards below a heading, or says why there are none."""
    parts = ["<h2>From the test data</h2>"]
    if cards:
        parts.append(
            '<p class="mm-note">Examples that it never saw in training, chosen '
            "without looking at the answers. Click one to try it.</p>"
            f'<div class="mm-gallery">{"".join(cards)}</div>'
        )
    if note:
        parts.append(f'<p class="mm-note">{escape(note)}</p>')
    return "".join(parts)
