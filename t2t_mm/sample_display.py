"""Sample outputs as the report shows them: what is right in them, and their media.

Called by `report`; reads the pictures and sounds that `evaluation` saved with a run.
"""

import base64
import difflib
import mimetypes
import os
from collections.abc import Mapping
from typing import Any

from t2t_mm import figures, registry, trees
from t2t_mm.problem import CLASS_LABEL, Problem
from t2t_mm.run_history import RunHistory


def displayed(folder: str, name: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Gives what the template shows of a sample output.

    Args:
      folder: the run's folder.
      name: of the problem.
      sample: as `evaluation.evaluate` made it.
    """
    reference, prediction = sample["reference"], sample["prediction"]
    shown: dict[str, Any] = {
        "inputs": sample.get("inputs") or "",
        "reference": reference,
        "words": marked_answer(name, reference, prediction),
        "is_right": reference.split() == prediction.split(),
        "reference_tree": None,
        "prediction_tree": None,
        "is_tree": trees.is_well_formed(reference),
        **media_of(folder, sample.get("inputs_file")),
    }
    if shown["is_tree"]:
        for key, text in (("reference", reference), ("prediction", prediction)):
            shown[f"{key}_tree"] = figures.tree_drawing(
                text, reference, shown["inputs"]
            )
    return shown


def growth(history: RunHistory, name: str) -> dict[str, Any] | None:
    """Gives one held-out example's answers from early to late in training."""
    answers: list[tuple[int, Mapping[str, Any]]] = []
    for record in history.of("eval", name):
        samples = record.get("samples") or []
        if samples:
            answers.append((record["step"], samples[len(samples) // 2]))
    if not answers or trees.is_well_formed(answers[-1][1]["reference"]):
        return None
    last = answers[-1][1]
    changes: list[tuple[int, str]] = []
    for step, sample in answers:
        is_same = all(sample[key] == last[key] for key in ("inputs", "reference"))
        if is_same and (not changes or changes[-1][1] != sample["prediction"]):
            changes.append((step, sample["prediction"]))
    if len(changes) < 2:
        return None
    count = min(5, len(changes))
    chosen = [
        changes[round(i * (len(changes) - 1) / (count - 1))] for i in range(count)
    ]
    return {
        **media_of(history.folder, last.get("inputs_file")),
        "inputs": last.get("inputs") or "",
        "reference": last["reference"],
        "answers": [
            (step, marked_answer(name, last["reference"], answer))
            for step, answer in chosen
        ],
    }


def marked_answer(name: str, reference: str, prediction: str) -> list[tuple[str, bool]]:
    """Gives an answer in pieces, each with whether it is right: words, or one label."""
    if name in registry.problems:
        problem: Problem = registry.problems.get(name)()
        if problem.targets.modality == CLASS_LABEL:
            return [(prediction, reference == prediction)]
    return marked_words(reference, prediction)


def marked_words(reference: str, prediction: str) -> list[tuple[str, bool]]:
    """Gives the words of an answer, each with whether it stands in the reference.

    Example:
      >>> marked_words("a red car", "a car red")
      [('a', True), ('car', False), ('red', True)]
    """
    expected, words = reference.split(), prediction.split()
    matcher = difflib.SequenceMatcher(None, expected, words, autojunk=False)
    right = {
        position
        for block in matcher.get_matching_blocks()
        for position in range(block.b, block.b + block.size)
    }
    return [(word, index in right) for index, word in enumerate(words)]


def media_of(folder: str, path: str | None) -> dict[str, Any]:
    """Gives a picture or sound as a data URI, if it lies in the run's folder."""
    media: dict[str, Any] = {"image": None, "audio": None, "missing": None}
    if path is None:
        return media
    root, full = os.path.realpath(folder), os.path.realpath(os.path.join(folder, path))
    kind = mimetypes.guess_type(full)[0] or ""
    if os.path.commonpath([root, full]) != root or not os.path.isfile(full):
        return media | {"missing": path}
    with open(full, "rb") as file:
        content = base64.b64encode(file.read()).decode()
    key = kind.split("/")[0]
    if key not in ("image", "audio"):
        return media | {"missing": path}
    return media | {key: f"data:{kind};base64,{content}"}
