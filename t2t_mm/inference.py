"""A trained run at work: raw inputs in, words and labels out.

`load_run(run_dir)` gives a `Run`; its `generate` is what mm-decoder uses, and
`predict`, for batches of a data split, what evaluation uses.
"""

import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from t2t_mm import checkpoints, configuration, run_settings
from t2t_mm.configuration import HParams
from t2t_mm.decoding import make_greedy
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.manifests import check_manifest
from t2t_mm.models import build_model
from t2t_mm.models.base import Model
from t2t_mm.problem import CLASS_LABEL, TEXT, Problem, get_problem
from t2t_mm.raw_inputs import make_batch
from t2t_mm.vocabulary import Vocabulary, load_vocabularies, vocabulary_sizes

# Compiled decoders by model, then by features; gone when the model is.
_COMPILED: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Answer(NamedTuple):
    """What the network made of one input.

    Attributes:
      output: the text, or the likeliest label.
      score: log-probability of the text, or probability of the label.
      ranked: for labels, the best few with their probabilities.
    """

    output: str
    score: float
    ranked: tuple[tuple[str, float], ...] = ()


def answers(
    model: Model,
    problem: Problem,
    batch: Mapping[str, Any],
    vocabularies: Mapping[str, Vocabulary],
    *,
    max_length: int | None = None,
    command: str | None = None,
) -> list[Answer]:
    """Decodes a batch greedily.

    Args:
      model: a built model.
      problem: one of its problems.
      batch: with "inputs" and "inputs_mask".
      vocabularies: of text features, by name.
      max_length: most ids of an answer; None for the model's `max_length`.
      command: asks for another product than the problem's own.

    Returns:
      An answer per row.
    """
    compiled = _COMPILED.setdefault(model, {})
    key = (problem.inputs, problem.targets)
    if key not in compiled:
        # The decoder keeps its model alive, so it must not hold its own key: a proxy.
        proxy: Any = weakref.proxy(model)
        compiled[key] = make_greedy(proxy, problem.name, batch_signature(problem))
    token = model.commands.token(command or problem.command)
    found = compiled[key](batch, token, max_length or model.hparams.max_length)
    if problem.targets.modality == CLASS_LABEL:
        labels = problem.targets.labels
        rows = zip(found["ranked"].numpy(), found["probabilities"].numpy(), strict=True)
        return [
            Answer(
                labels[ids[0]],
                float(best[0]),
                tuple((labels[i], float(p)) for i, p in zip(ids, best, strict=True)),
            )
            for ids, best in rows
        ]
    words = vocabularies[str(problem.targets.vocabulary)]
    rows = zip(found["ids"].numpy(), found["scores"].numpy(), strict=True)
    return [Answer(words.decode(ids.tolist()), float(score)) for ids, score in rows]


def predict(
    model: Model,
    problem: Problem,
    batch: Mapping[str, Any],
    vocabularies: Mapping[str, Vocabulary],
    *,
    max_length: int | None = None,
) -> list[Any]:
    """Gives what metrics compare: texts, or labels ranked from the best.

    Args, max_length: as `answers`.
    """
    found = answers(model, problem, batch, vocabularies, max_length=max_length)
    if problem.targets.modality == CLASS_LABEL:
        return [[label for label, _ in answer.ranked] for answer in found]
    return [answer.output for answer in found]


def longest_answer(problem: Problem, data_dir: str, hparams: HParams) -> int:
    """Gives how many ids an answer may have: the longest training target, and a bit."""
    if problem.targets.modality != TEXT:
        return 1
    lengths = check_manifest(data_dir, problem.name)["splits"]["train"]["lengths"]
    return min(int(lengths["targets"]["max"]) + 4, hparams.max_length)


class Run:
    """A trained model with its problems and vocabularies, ready to answer.

    Attributes:
      run_dir, data_dir: where run and data lie.
      record: what run.json says.
      step: of the checkpoint.
      model, hparams, problems (by name), vocabularies (by name).
    """

    def __init__(
        self,
        run_dir: str,
        *,
        data_dir: str | None = None,
        step: int | str | None = None,
    ):
        record = run_settings.load_run_record(run_dir)
        saved = configuration.load_hparams(run_dir)
        if record is None or saved is None:
            raise FileNotFoundError(
                f"{run_dir} holds no run: {run_settings.RUN_FILE} or "
                f"{configuration.HPARAMS_FILE} is not there; expected the --output_dir "
                "of mm-trainer. Check the path, or train first."
            )
        self.run_dir = run_dir
        self.record = record
        self.data_dir = data_dir or record["data_dir"]
        self.hparams = saved[0]
        self.problems = {name: get_problem(name) for name in record["problems"]}
        problems = list(self.problems.values())
        self.vocabularies = load_vocabularies(problems, self.data_dir)
        self._check_vocabularies()
        sizes = vocabulary_sizes(problems, self.vocabularies)
        self.model = build_model(record["model"], self.hparams, problems, sizes)
        self.step = checkpoints.restore_for_inference(self.model, run_dir, step)

    def _check_vocabularies(self) -> None:
        for name, fingerprint in self.record.get("vocabularies", {}).items():
            words = self.vocabularies.get(name)
            if words is None or words.fingerprint != fingerprint:
                raise ValueError(
                    f"Vocabulary '{name}' in {self.data_dir} is not the one that "
                    f"{self.run_dir} was trained with; expected fingerprint "
                    f"{fingerprint[:12]}. Point --data_dir at the data of the run."
                )

    def problem(self, name: str) -> Problem:
        """Gives one of the run's problems.

        Raises:
          ValueError: if the run was not trained on it.
        """
        if name not in self.problems:
            raise ValueError(
                f"The run in {self.run_dir} knows no problem '{name}'; it was trained "
                f"on {', '.join(self.problems)}. Choose one of them."
            )
        return self.problems[name]

    def max_target_length(self, name: str) -> int:
        """Gives how long an answer may get: the longest training target, and a bit."""
        return longest_answer(self.problem(name), self.data_dir, self.hparams)

    def generate(
        self,
        problem_name: str,
        inputs: Sequence[Any],
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        command: str | None = None,
    ) -> list[Answer]:
        """Answers raw inputs, in their order.

        Args:
          problem_name: one of the run's problems.
          inputs: for text problems strings; for pictures and sounds paths of files,
            their bytes, or arrays.
          batch_size: how many are decoded at once.
          max_length: most ids of an answer; by default the longest training target.
          command: asks for another product, such as "To-German" of a caption.

        Raises:
          ValueError: if an input cannot be read as the problem's modality; names it.
        """
        problem = self.problem(problem_name)
        longest = max_length or self.max_target_length(problem_name)
        found: list[Answer] = []
        for first in range(0, len(inputs), batch_size):
            batch = make_batch(
                problem.inputs, inputs[first : first + batch_size], self.vocabularies
            )
            found += answers(
                self.model,
                problem,
                batch,
                self.vocabularies,
                max_length=longest,
                command=command,
            )
        return found


def load_run(
    run_dir: str, *, data_dir: str | None = None, step: int | str | None = None
) -> Run:
    """Loads a trained run.

    Args:
      run_dir: the `--output_dir` of mm-trainer.
      data_dir: where its vocabularies are; by default as trained.
      step: of the checkpoint; None for the newest, "best" for the best.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if checkpoint or vocabulary do not fit it.
    """
    return Run(os.path.abspath(run_dir), data_dir=data_dir, step=step)
