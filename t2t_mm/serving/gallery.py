"""Examples of the test splits: what the page shows before anybody typed a word.

As in the first figure of Kaiser et al. 2017, arxiv.org/abs/1706.05137: inputs of all
kinds, and what one network makes of them. Chosen without looking at the answers.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t2t_mm import records
from t2t_mm.problem import CLASS_LABEL, IMAGE, TEXT, Feature, Problem
from t2t_mm.serving.limits import FULL, Refused
from t2t_mm.serving.service import Question, Reply, Service
from t2t_mm.split_reader import SplitReader
from t2t_mm.vocabulary import Vocabulary

# Texts of a handy length: long enough to be a sentence, short enough for a card.
_SHORTEST_TEXT, _LONGEST_TEXT = 12, 60
_LONGEST_SOUND_BYTES = 320_000
_MOST_LOOKED_AT = 400


@dataclass(frozen=True)
class Example:
    """A raw example of a test split.

    Args:
      problem: its name.
      content: a text, or the bytes of a PNG or WAV file.
      reference: the right answer.
    """

    problem: str
    content: str | bytes
    reference: str


def examples_of(
    problem: Problem,
    data_dir: str,
    vocabularies: Mapping[str, Vocabulary],
    count: int,
) -> list[Example]:
    """Gives some examples of the first test split, spread evenly over it.

    Args:
      problem: whose examples.
      data_dir: where mm-datagen put them.
      vocabularies: by name.
      count: how many, at most.

    Raises:
      FileNotFoundError, ValueError: if the data is not there or does not fit.
    """
    reader = SplitReader(problem, problem.test_splits[0], data_dir)
    rows = _spread(len(reader.index), _MOST_LOOKED_AT)
    read = (records.unpack(reader.read([row])[0]) for row in rows)
    found: list[Example] = []
    spare: list[Example] = []
    for values in read:
        example = Example(
            problem.name,
            _raw(problem.inputs, values["inputs"], vocabularies),
            str(_raw(problem.targets, values["targets"], vocabularies)),
        )
        (found if _is_handy(problem, example) else spare).append(example)
    chosen = _spread(len(found), count)
    return ([found[i] for i in chosen] + spare)[:count]


def _spread(total: int, count: int) -> Sequence[int]:
    """Gives up to `count` numbers below `total`, evenly apart.

    Example:
      >>> list(map(int, _spread(9, 3))), list(map(int, _spread(2, 5)))
      ([0, 4, 8], [0, 1])
    """
    if total <= count:
        return range(total)
    return [int(i) for i in np.linspace(0, total - 1, count).round()]


def _raw(
    feature: Feature, value, vocabularies: Mapping[str, Vocabulary]
) -> str | bytes:
    if feature.modality == TEXT:
        return vocabularies[str(feature.vocabulary)].decode(list(value))
    if feature.modality == CLASS_LABEL:
        return feature.labels[value[0]]
    return _on_white(value) if feature.modality == IMAGE else value


def _on_white(content: bytes) -> bytes:
    """Gives a picture as PNG without transparency, as browsers show it in the dark."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    buffer = io.BytesIO()
    Image.alpha_composite(white, rgba).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _is_handy(problem: Problem, example: Example) -> bool:
    if isinstance(example.content, str):
        return _SHORTEST_TEXT <= len(example.content) <= _LONGEST_TEXT
    if problem.inputs.modality == IMAGE:
        return True
    return len(example.content) <= _LONGEST_SOUND_BYTES


@dataclass
class Shelf:
    """All examples of a run, and what the network made of the first of each problem.

    Args:
      examples: by problem, in the order of the run.
      answered: how many of each problem stand in the gallery.
      note: why there are no examples of some problems, or "".

    Attributes:
      replies: to the first examples of a problem, or why there are none. `answer_all`
        fills it, which takes a while; every problem comes in one piece, so that others
        may read on.
    """

    examples: Mapping[str, Sequence[Example]]
    answered: int = 2
    note: str = ""
    replies: dict[str, Sequence[Reply] | Refused] = field(default_factory=dict)

    def reply(self, name: str, number: int) -> Reply | Refused | None:
        """Gives the reply to an example; None if there is none, or none yet."""
        replies = self.replies.get(name, ())
        if isinstance(replies, Refused):
            return replies if number < self.answered else None
        return replies[number] if number < len(replies) else None

    def answer_all(
        self, service: Service, ask: Callable[[Callable[[], Any]], Any]
    ) -> None:
        """Lets the network answer the first examples of each problem.

        It warms the network up, too: all that the page needs is compiled on the way.

        Args:
          service: answers.
          ask: calls a function where work is done, and gives what it gives.
        """
        for name, examples in self.examples.items():
            question = Question(
                name,
                [example.content for example in examples[: self.answered]],
                decode_hparams=service.usual_settings(service.problem(name).command),
                explain=True,
            )
            try:
                self.replies[name] = ask(functools.partial(service.answer, question))
            except Refused as error:
                if error.status == FULL:
                    raise
                self.replies[name] = error


def filled_shelf(
    service: Service, *, examples_per_problem: int = 12, answered: int = 2
) -> Shelf:
    """Reads examples of each problem; `Shelf.answer_all` comes next.

    Args:
      service: whose run and data.
      examples_per_problem: read.
      answered: of them, to be answered for the gallery.
    """
    examples: dict[str, list[Example]] = {}
    run = service.run
    missing = []
    for name, problem in run.problems.items():
        try:
            found = examples_of(
                problem, run.data_dir, run.vocabularies, examples_per_problem
            )
        except (FileNotFoundError, ValueError) as error:
            missing.append(f"{name}: {error}")
            continue
        if found:
            examples[name] = found
    note = ""
    if missing:
        note = (
            f"No examples of {len(missing)} of the problems: their test splits were "
            f"expected in {run.data_dir}. Start mm-serve with --data_dir, or make them "
            f"with mm-datagen. ({missing[0]})"
        )
    return Shelf(examples, answered, note)
