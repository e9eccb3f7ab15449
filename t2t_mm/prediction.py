"""One batch of a built model -> answers: what evaluation and `inference` share.

Compiled functions are kept by model, one for each pair of features and kind of search,
since the command is an argument of theirs.
"""

import dataclasses
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t2t_mm import raw_targets
from t2t_mm import run_vocabularies as kept
from t2t_mm.answers import Answer, from_classes, from_texts
from t2t_mm.configuration import HParams
from t2t_mm.decode_settings import DecodeHParams
from t2t_mm.decoding import make_decoder
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.models.base import Model
from t2t_mm.problem import CLASS_LABEL, TEXT, Problem
from t2t_mm.tree_guide import TreeGuide
from t2t_mm.vocabulary import Vocabulary

# More than the longest training target by that many tokens an answer may be.
LONGER = 4
# Compiled functions kept per model: each new pair of features or kind of search is one.
_MOST_COMPILED = 64


class _Compiled:
    """Compiled functions of one model, made once each; the least used go."""

    def __init__(self) -> None:
        self._functions: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()  # held for a moment only
        self._building = threading.Lock()  # held while one function is compiled

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        found = self._known(key)
        if found is None:
            with self._building:
                found = self._known(key)  # somebody else may have made it meanwhile
                if found is None:
                    found = make()
                    self._keep(key, found)
        return found

    def _known(self, key: Any) -> Any:
        with self._lock:
            if key in self._functions:
                self._functions.move_to_end(key)
            return self._functions.get(key)

    def _keep(self, key: Any, function: Any) -> None:
        with self._lock:
            self._functions[key] = function
            if len(self._functions) > _MOST_COMPILED:
                self._functions.popitem(last=False)


# By model; gone when the model is.
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def compiled(model: Model, key: Any, make: Callable[[Any], Any]) -> Any:
    """Gives the function that `make` made for a model and a key, made once.

    Safe to call from several threads. `make` gets a weak proxy of the model: a function
    that held its own key would never be forgotten.
    """
    with _LOCK:
        functions = _COMPILED.setdefault(model, _Compiled())
    return functions.get(key, lambda: make(weakref.proxy(model)))


class _Serving:
    """A model that knows one more problem: a pairing that it was not trained on."""

    def __init__(self, model: Any, problem: Problem):
        self._model = model
        self.problems = {problem.name: problem}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def serving(model: Any, problem: Problem) -> Any:
    """Gives the model as one that knows the problem, trained or a pairing."""
    return _Serving(model, problem)


def answers(
    model: Model,
    problem: Problem,
    batch: Mapping[str, Any],
    vocabularies: Mapping[str, Vocabulary],
    *,
    settings: DecodeHParams | None = None,
    max_length: int | None = None,
    command: str | None = None,
    prefixes: Sequence[str] | None = None,
    sources: Sequence[str | None] | None = None,
    row_numbers: Sequence[int] | None = None,
) -> list[Answer]:
    """Decodes a batch.

    Args:
      model: a built model.
      problem: one of its problems, or a pairing of their features.
      batch: with "inputs" and "inputs_mask".
      vocabularies: of text features, by name.
      settings: of the search; greedy by default.
      max_length: most ids of an answer, where the settings do not say; None for the
        model's `max_length`.
      command: asks for another product than the problem's own.
      prefixes: how the answer of each row must begin.
      sources: the text of each row, kept in its answer.
      row_numbers: what draws depend on besides the seed; by default the rows' own.

    Returns:
      An answer per row.

    Raises:
      ValueError: if a prefix leaves no room for an answer, or answers are labels.
    """
    if prefixes is not None and problem.targets.modality == CLASS_LABEL:
        raise ValueError(
            f"A prefix came for '{problem.name}', whose answers are labels; expected a "
            "problem that answers with text. Leave the prefix out."
        )
    settings = settings or DecodeHParams()
    longest = settings.max_length or max_length or model.hparams.max_length
    # None of them decides what is compiled.
    search = dataclasses.replace(settings, max_length=0, batch_size=1, random_seed=1)
    if problem.targets.modality == CLASS_LABEL:
        search = DecodeHParams()  # all labels are looked at, whatever the search
    decode = compiled(
        model,
        ("decode", problem.inputs, problem.targets, search),
        lambda proxy: make_decoder(
            serving(proxy, problem),
            problem.name,
            batch_signature(problem),
            search,
            guide=_guide(problem, search, vocabularies),
        ),
    )
    token = model.commands.token(command or problem.command)
    if problem.targets.modality == CLASS_LABEL:
        return from_classes(problem, decode(batch, token, longest))
    words = vocabularies[str(problem.targets.vocabulary)]
    prefix = None
    if prefixes is not None:
        prefix = _prefix_ids(problem, prefixes, vocabularies, longest)
    found = decode(
        batch, token, longest, prefix, row_numbers, random_seed=settings.random_seed
    )
    num_rows = len(batch["inputs"])
    return from_texts(words, found, sources or [None] * num_rows)


def _prefix_ids(
    problem: Problem,
    prefixes: Sequence[str],
    vocabularies: Mapping[str, Vocabulary],
    longest: int,
) -> np.ndarray:
    ids = raw_targets.encode_prefixes(problem.targets, prefixes, vocabularies)
    length = max(map(len, ids), default=0)
    if length >= longest:
        raise ValueError(
            f"A prefix of {length} ids came; expected fewer than {longest}, the most "
            "of an answer. Shorten it, or set max_length in --decode_hparams."
        )
    return raw_targets.padded(ids)


def _guide(
    problem: Problem, search: DecodeHParams, vocabularies: Mapping[str, Vocabulary]
) -> TreeGuide | None:
    if not search.well_formed_trees:
        return None
    return TreeGuide(vocabularies[str(problem.targets.vocabulary)])


def predict(
    model: Model,
    problem: Problem,
    batch: Mapping[str, Any],
    vocabularies: Mapping[str, Vocabulary],
    *,
    max_length: int | None = None,
    settings: DecodeHParams | None = None,
) -> list[Any]:
    """Gives what metrics compare: texts, or labels ranked from the best.

    Args: as `answers`.
    """
    found = answers(
        model, problem, batch, vocabularies, max_length=max_length, settings=settings
    )
    if problem.targets.modality == CLASS_LABEL:
        return [[label for label, _ in answer.ranked] for answer in found]
    return [answer.output for answer in found]


def longest_answer(problem: Problem, data_dir: str, hparams: HParams) -> int:
    """Gives how many ids an answer may have: the longest training target, and a bit."""
    if problem.targets.modality != TEXT:
        return 1
    longest = kept.longest_targets([problem], data_dir)[problem.name]
    return min(longest + LONGER, hparams.max_length)
