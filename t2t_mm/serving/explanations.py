"""What the network looked at and which experts answered, as HTML for the page.

Words and words: a table. Words and a picture: the picture once per word, with light
where the network looked. Words and a sound: rows below its spectrogram.
"""

import base64
import io
from html import escape

import numpy as np

from t2t_mm.explanation import SOURCE, Attention, Trace
from t2t_mm.problem import AUDIO, IMAGE

_MOST_TARGETS = 40
_MOST_PICTURES = 24
_MOST_SOURCES = 60
_SPECTROGRAM_ROWS = 96
# Dark to light, for loudness: a few colours of matplotlib's "magma".
_LOUDNESS = ((0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191))


def drawn_trace(trace: Trace, content: np.ndarray | str) -> str:
    """Draws a trace below an answer, folded up.

    Args:
      trace: what `run.trace` gave.
      content: the input as the network's reader got it: a text, a picture uint8
        [H, W, 3], or a sound float [T].
    """
    parts = []
    attention = trace.attention
    if attention.of_kind(SOURCE):
        parts.append(
            '<details class="mm-more" open><summary>What it looked at</summary>'
            f"{_drawn_attention(attention, content)}"
            '<p class="mm-note">Mean over all layers and heads; what a word looked at '
            "adds up to 1.</p></details>"
        )
    if trace.expert_use:
        parts.append(
            '<details class="mm-more"><summary>Which experts answered</summary>'
            f"{_drawn_experts(trace)}</details>"
        )
    return "".join(parts)


def _drawn_attention(attention: Attention, content: np.ndarray | str) -> str:
    weights = attention.mean()  # [L, S]
    if attention.source.modality == IMAGE and isinstance(content, np.ndarray):
        return _over_picture(attention, weights, content)
    if attention.source.modality == AUDIO and isinstance(content, np.ndarray):
        return _below_sound(attention, weights, content)
    return _table(attention, weights)


def _shown_token(token: str) -> str:
    # Sentencepiece marks blanks with the first of these.
    return escape(token.replace("▁", " ").strip() or "␣").replace(
        "&lt;EOS&gt;", "(end)"
    )


def _table(attention: Attention, weights: np.ndarray) -> str:
    sources = attention.source.labels[:_MOST_SOURCES]
    head = "".join(f"<th><span>{_shown_token(one)}</span></th>" for one in sources)
    strongest = float(weights.max()) or 1.0
    rows = []
    for target, row in zip(attention.targets[:_MOST_TARGETS], weights, strict=False):
        cells = "".join(
            f'<td style="--heat:{value / strongest:.2f}" '
            f'title="{_shown_token(source)}: {value:.0%}"></td>'
            for source, value in zip(sources, row, strict=False)
        )
        rows.append(f"<tr><th>{_shown_token(target)}</th>{cells}</tr>")
    return (
        '<div class="mm-scroll"><table class="mm-heat"><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _over_picture(
    attention: Attention, weights: np.ndarray, picture: np.ndarray
) -> str:
    grid = attention.source.grid
    if grid is None or grid[0] * grid[1] != weights.shape[1]:
        return _table(attention, weights)
    image = _data_uri(_small(picture))
    figures = []
    for target, row in zip(attention.targets[:_MOST_PICTURES], weights, strict=False):
        shade = 1 - row / (float(row.max()) or 1.0)
        cells = "".join(f'<i style="--shade:{value:.2f}"></i>' for value in shade)
        figures.append(
            f'<figure><div class="mm-lit" style="grid-template-columns:'
            f'repeat({grid[1]},1fr)">{cells}</div>'
            f"<figcaption>{_shown_token(target)}</figcaption></figure>"
        )
    # The picture comes once, however many words there are.
    return (
        f'<div class="mm-figures" style="--picture:url({image})">'
        f"{''.join(figures)}</div>"
    )


def _below_sound(attention: Attention, weights: np.ndarray, sound: np.ndarray) -> str:
    rows = []
    for target, row in zip(attention.targets[:_MOST_TARGETS], weights, strict=False):
        strip = (255 * row / (float(row.max()) or 1.0)).astype(np.uint8)[None]
        rows.append(
            f'<span>{_shown_token(target)}</span><img alt="" '
            f'src="{_data_uri(_coloured(strip))}">'
        )
    seconds = attention.source.seconds[-1][1] if attention.source.seconds else 0.0
    return (
        '<div class="mm-strips"><span></span>'
        f'<img class="mm-spectrogram" alt="spectrogram, {seconds:.1f} seconds" '
        f'src="{_data_uri(_coloured(spectrogram(sound)))}">{"".join(rows)}'
        f'<span></span><div class="mm-times"><span>0 s</span><span>{seconds:.1f} s'
        "</span></div></div>"
    )


def spectrogram(sound: np.ndarray) -> np.ndarray:
    """Gives loudness as uint8 [frequencies, times], high frequencies above."""
    from scipy.signal import stft

    window = min(512, len(sound))
    _, _, values = stft(sound, nperseg=window, noverlap=window * 3 // 4)
    decibels = 20 * np.log10(np.abs(values) + 1e-6)
    top = float(decibels.max())
    scaled = np.clip((decibels - (top - 70)) / 70, 0, 1)
    step = max(1, len(scaled) // _SPECTROGRAM_ROWS)
    return (255 * scaled[::step][::-1]).astype(np.uint8)


def _coloured(values: np.ndarray) -> np.ndarray:
    """Gives uint8 [H, W, 3] for uint8 [H, W]."""
    places = np.linspace(0, 255, len(_LOUDNESS))
    colours = np.array(_LOUDNESS, float)
    channels = [np.interp(values, places, colours[:, channel]) for channel in range(3)]
    return np.stack(channels, -1).astype(np.uint8)


def _small(picture: np.ndarray) -> np.ndarray:
    step = max(1, max(picture.shape[:2]) // 128)
    return picture[::step, ::step]


def _data_uri(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _drawn_experts(trace: Trace) -> str:
    layers = []
    for name, share in trace.expert_use.items():
        strongest = float(share.max()) or 1.0
        cells = "".join(
            f'<i style="--heat:{value / strongest:.2f}" title="expert {number + 1}: '
            f'{value:.0%}"></i>'
            for number, value in enumerate(share.tolist())
        )
        best = np.argsort(-share)[:4]
        told = ", ".join(f"{number + 1} ({share[number]:.0%})" for number in best)
        layers.append(
            f"<div><b>{escape(name.replace('_', ' '))}</b> "
            f'<span class="mm-note">most: {told}</span>'
            f'<div class="mm-experts">{cells}</div></div>'
        )
    return f'<div class="mm-layers">{"".join(layers)}</div>'
