"""Does an export answer as its run does, and how fast? Asked before it gets its name.

Called by `export`.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t2t_mm import samples
from t2t_mm.answers import Answer
from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.exported import ExportedModel
from t2t_mm.inference import Run
from t2t_mm.media import wav_file
from t2t_mm.problem import AUDIO, IMAGE, TEXT, Problem

_TIMED_CALLS = 5
# Two graphs of the same sums may round differently; scores are sums over an answer.
_TOLERANCE = 1e-3
_MADE_UP_TEXTS = ("A", "Is this a text?", "")
_MADE_UP_SECONDS = 0.5


def raw_examples(run: Run, problem: Problem, number: int) -> tuple[list[Any], str]:
    """Gives inputs as users send them: strings, or the bytes of files.

    Returns:
      (inputs of the dev split, "dev"), or (made-up ones, "made-up") where the run's
      data is no longer there or has changed since.
    """
    from t2t_mm.input_pipeline import evaluation_batches

    try:
        batches = evaluation_batches(
            problem, "dev", run.data_dir, run.hparams, limit=number
        )
    except (FileNotFoundError, ValueError):
        return _made_up(problem, number), "made-up"
    inputs = []
    for batch in batches:
        for value, mask in zip(batch["inputs"], batch["inputs_mask"], strict=True):
            inputs.append(_raw(run, problem, value.numpy(), mask.numpy()))
    return inputs, "dev"


def _raw(run: Run, problem: Problem, value: np.ndarray, mask: np.ndarray) -> Any:
    if problem.inputs.modality == IMAGE:
        return samples.png_bytes(value)
    if problem.inputs.modality == AUDIO:
        return wav_file(value[mask], problem.inputs.sample_rate)
    return samples.as_text(problem.inputs, value, run.vocabularies)


def _made_up(problem: Problem, number: int) -> list[Any]:
    dice = np.random.default_rng(0)
    feature = problem.inputs
    if feature.modality == TEXT:
        return [_MADE_UP_TEXTS[i % len(_MADE_UP_TEXTS)] for i in range(number)]
    if feature.modality == IMAGE:
        shape = (number, feature.height, feature.width, feature.channels)
        return [samples.png_bytes(one) for one in dice.random(shape)]
    noise = dice.normal(0, 0.1, (number, int(_MADE_UP_SECONDS * feature.sample_rate)))
    return [wav_file(one, feature.sample_rate) for one in noise]


def as_waveform(content: bytes, sample_rate: int) -> list[float]:
    """Gives the samples of a sound file, for a signature that takes no files."""
    from t2t_mm.raw_inputs import sound_of

    return sound_of(content, sample_rate).tolist()


def check_answers(
    name: str, found: Sequence[Mapping[str, Any]], expected: Sequence[Answer]
) -> None:
    """Compares what an export answered with what its run did.

    Raises:
      ValueError: if they differ by more than rounding can make.
    """
    for row, answer in zip(found, expected, strict=True):
        close = abs(row["score"] - answer.score) <= _TOLERANCE * (1 + abs(answer.score))
        # An equal score and another text is a tie.
        if row["error"] or not close:
            raise ValueError(
                f"Signature '{name}' of the export answers {row['output']!r} (score "
                f"{row['score']:.4f}, error {row['error']!r}) where the run answers "
                f"{answer.output!r} (score {answer.score:.4f}); expected the same. "
                "Nothing was exported; please report this."
            )


def latency_ms(model: ExportedModel, name: str, one: Any) -> float:
    """Gives the median time of an answer, batch 1, after the first, in ms."""
    times = []
    for _ in range(_TIMED_CALLS):
        start = time.perf_counter()
        model.generate(name, [one])
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def check(
    run: Run,
    model: ExportedModel,
    signatures: Mapping[str, Any],
    settings: DecodeHParams,
    number: int,
) -> dict[str, dict[str, Any]]:
    """Asks every signature of an export, and the run, the same.

    Args:
      run: what was exported.
      model: the export.
      signatures: those of the `ServedModel`, by name.
      settings: of the search.
      number: how many inputs for each.

    Returns:
      {"latency_ms", "inputs_from" ("dev" or "made-up"), "compared"} for each signature.

    Raises:
      ValueError: if an answer differs.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, signature in signatures.items():
        product = signature.product
        problem = product.problem
        inputs, origin = raw_examples(run, run.problems[product.source], number)
        raw = inputs
        if "waveform" in signature.reader.specs:
            rate = problem.inputs.sample_rate
            raw = [as_waveform(one, rate) for one in inputs]
        # One by one: what is drawn for an input depends on its number among others.
        expected = [
            run.generate(
                product.source,
                one,
                command=problem.command,
                decode_hparams=settings,
            )
            for one in inputs
        ]
        check_answers(name, model.generate(name, raw), expected)
        found[name] = {
            "latency_ms": round(latency_ms(model, name, raw[0]), 2),
            "inputs_from": origin,
            "compared": len(inputs),
        }
    return found
