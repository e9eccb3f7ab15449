"""Shows generated data in human form: examples, lengths, pictures, sounds.

Called by `mm-datagen --inspect`. Imports no TensorFlow.
"""

import collections
import io
import os
import textwrap
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np

from t2t_mm import records
from t2t_mm.files import write_atomically
from t2t_mm.problem import AUDIO, CLASS_LABEL, IMAGE, TEXT, Feature, Problem
from t2t_mm.split_reader import SplitReader
from t2t_mm.vocabulary import Vocabulary, load_vocabularies

NUM_EXAMPLES = 5
# The sheet of pictures: this many in a row and in all.
_SHEET_COLUMNS, _SHEET_PICTURES = 10, 60
_CELL_PIXELS = 112
_CAPTION_LINES = 3
_HISTOGRAM_ROWS, _HISTOGRAM_WIDTH = 12, 40
_MOST_LABELS = 20


def inspect(problem: Problem, data_dir: str) -> str:
    """Gives a text about a problem's data; writes pictures and sounds beside it.

    Args:
      problem: whose data mm-datagen has finished.
      data_dir: where it is. A sheet of pictures goes to `inspect/<problem>.png`, a
        few sounds to `inspect/<problem>-<n>.wav`.

    Raises:
      FileNotFoundError, ValueError: as `check_manifest`.
    """
    reader = SplitReader(problem, "train", data_dir)
    vocabularies = load_vocabularies([problem], data_dir)
    lines = [_title(problem, reader.manifest), ""]
    for split in problem.splits:
        lines += _described_examples(problem, split, data_dir, vocabularies)
    for column, (name, feature) in enumerate(problem.features.items()):
        lengths = reader.index[:, records.LENGTHS + column]
        if feature.modality == TEXT:
            lines += [f"Lengths of '{name}' in train, tokens:", _histogram(lengths)]
        elif feature.modality == AUDIO:
            seconds = lengths / feature.sample_rate
            lines += [f"Lengths of '{name}' in train, seconds:", _histogram(seconds)]
        elif feature.modality == CLASS_LABEL:
            lines += [f"Labels of '{name}' in train:", _labels(name, feature, reader)]
    lines += _written_files(problem, reader, data_dir, vocabularies)
    return "\n".join(lines)


def _title(problem: Problem, manifest: dict) -> str:
    lines = [
        f"{problem.name}: {(type(problem).__doc__ or '').strip().splitlines()[0]}",
        f"  command {problem.command}, version {problem.version}, seed "
        f"{manifest['seed']}, licence: {problem.licence}",
    ]
    for name, feature in problem.features.items():
        lines.append(f"  {name}: {feature}")
    for split, entry in manifest["splits"].items():
        lines.append(
            f"  {split}: {entry['examples']:,} examples, {entry['bytes']:,} bytes in "
            f"{len(entry['shards'])} shards"
        )
    return "\n".join(lines)


def _described_examples(
    problem: Problem,
    split: str,
    data_dir: str,
    vocabularies: Mapping[str, Vocabulary],
) -> list[str]:
    reader = SplitReader(problem, split, data_dir)
    rows = range(min(NUM_EXAMPLES, len(reader.index)))
    lines = [f"First examples of {split}:"]
    for number, record in enumerate(reader.read(rows)):
        values = records.unpack(record)
        for name, feature in problem.features.items():
            head = f"  {number}  {name:<8}" if name == "inputs" else f"     {name:<8}"
            lines.append(f"{head} {human_form(feature, values[name], vocabularies)}")
    return [*lines, ""]


def human_form(
    feature: Feature, value: Any, vocabularies: Mapping[str, Vocabulary]
) -> str:
    """Gives one line about a stored value: its text, label, size or seconds."""
    if feature.modality == TEXT:
        vocabulary = vocabularies[str(feature.vocabulary)]
        text = vocabulary.decode(value)
        pieces = "|".join(vocabulary.pieces(text))
        return f"{text!r}  ({len(value)} tokens: {pieces}|EOS)"
    if feature.modality == CLASS_LABEL:
        return f"{feature.labels[value[0]]!r} (label {value[0]})"
    if feature.modality == IMAGE:
        from PIL import Image

        with Image.open(io.BytesIO(value)) as image:
            size = f"{image.width} x {image.height}"
            return f"{image.format} {size} {image.mode}, {len(value):,} bytes"
    with wave.open(io.BytesIO(value)) as sound:
        frames = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        seconds = len(frames) / sound.getframerate()
        peak = np.abs(frames.astype(int)).max() / 32768
        return f"{seconds:.2f} s at {sound.getframerate()} Hz, peak {peak:.2f}"


def _histogram(values: np.ndarray) -> str:
    """Draws how many values lie in each of some equal steps, with their summary."""
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.integer):
        step = max(1, -(-int(high - low + 1) // _HISTOGRAM_ROWS))
        edges = np.arange(low, high + step + 1, step)
        names = [f"{a:.0f}" + f"-{a + step - 1:.0f}" * (step > 1) for a in edges[:-1]]
    else:
        edges = np.linspace(low, high, _HISTOGRAM_ROWS + 1)
        names = [f"{a:.2f}-{b:.2f}" for a, b in zip(edges, edges[1:], strict=False)]
    counts, _ = np.histogram(values, edges)
    marks = np.percentile(values, [50, 95])
    summary = (
        f"  mean {values.mean():.4g}, median {marks[0]:.4g}, 95 % below "
        f"{marks[1]:.4g}, longest {high:.4g}"
    )
    return "\n".join([summary, *_bars(dict(zip(names, counts, strict=True))), ""])


def _bars(counts: Mapping[str, int]) -> list[str]:
    width = max(map(len, counts))
    most = max(counts.values()) or 1
    return [
        f"  {name:>{width}} {'#' * round(_HISTOGRAM_WIDTH * n / most)} {n:,}"
        for name, n in counts.items()
    ]


def _labels(name: str, feature: Feature, reader: SplitReader) -> str:
    found = collections.Counter(
        records.unpack(reader.read([row])[0])[name][0]
        for row in range(len(reader.index))
    )
    ranked = found.most_common(_MOST_LABELS)
    lines = _bars({feature.labels[label]: count for label, count in ranked})
    rest = len(feature.labels) - len(ranked)
    if rest:
        lines.append(
            f"  and {rest} labels more, {len(found) - len(ranked)} of them used"
        )
    return "\n".join([*lines, ""])


def _written_files(
    problem: Problem,
    reader: SplitReader,
    data_dir: str,
    vocabularies: Mapping[str, Vocabulary],
) -> list[str]:
    """Writes a sheet of pictures or some sounds; gives lines that say where."""
    stem = os.path.join(data_dir, "inspect", problem.name)
    if problem.inputs.modality == IMAGE:
        rows = range(min(_SHEET_PICTURES, len(reader.index)))
        examples = [records.unpack(record) for record in reader.read(rows)]
        write_atomically(f"{stem}.png", _sheet(problem, examples, vocabularies))
        return [f"Pictures of train, as the network gets them: {stem}.png"]
    if problem.inputs.modality == AUDIO:
        rows = range(min(NUM_EXAMPLES, len(reader.index)))
        for number, record in enumerate(reader.read(rows)):
            content = records.unpack(record)["inputs"]
            write_atomically(f"{stem}-{number}.wav", content)
        return [f"Sounds of the first examples of train: {stem}-<number>.wav"]
    return []


def _sheet(
    problem: Problem, examples: list[dict], vocabularies: Mapping[str, Vocabulary]
) -> bytes:
    """Draws pictures at the size the network gets, enlarged, with their targets."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=12)
    line_height = 14
    height = _CELL_PIXELS + _CAPTION_LINES * line_height + 4
    num_rows = -(-len(examples) // _SHEET_COLUMNS)
    size = (_SHEET_COLUMNS * _CELL_PIXELS, num_rows * height)
    sheet = Image.new("RGB", size, "lightgrey")
    draw = ImageDraw.Draw(sheet)
    for place, values in enumerate(examples):
        left = place % _SHEET_COLUMNS * _CELL_PIXELS
        top = place // _SHEET_COLUMNS * height
        picture = _as_seen(problem.inputs, values["inputs"])
        sheet.paste(picture, (left + 4, top + 4))
        caption = _caption(problem.targets, values["targets"], vocabularies)
        for number, line in enumerate(caption):
            place_of_text = (left + 4, top + _CELL_PIXELS + number * line_height)
            draw.text(place_of_text, line, fill="black", font=font)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _as_seen(feature: Feature, content: bytes):
    """Gives a picture without transparency, at the feature's size, then enlarged."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        small = image.convert("RGB" if feature.channels > 1 else "L")
    small = small.resize((feature.width, feature.height), Image.Resampling.BILINEAR)
    scale = (_CELL_PIXELS - 8) / max(feature.width, feature.height)
    size = (round(feature.width * scale), round(feature.height * scale))
    return small.resize(size, Image.Resampling.NEAREST)


def _caption(
    feature: Feature, value: Any, vocabularies: Mapping[str, Vocabulary]
) -> list[str]:
    if feature.modality == TEXT:
        text = vocabularies[str(feature.vocabulary)].decode(value)
    else:
        text = feature.labels[value[0]]
    return textwrap.wrap(text, _CELL_PIXELS // 7)[:_CAPTION_LINES]
