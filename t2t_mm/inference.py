"""A trained run at work: raw inputs in, words, trees and labels out.

`t2t_mm.load(run)` gives a `Run`; every command, page and export uses its `generate`,
`score`, `attention` and `expert_use`.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from t2t_mm import checkpoints, configuration, raw_inputs, raw_targets, run_settings
from t2t_mm import run_vocabularies as kept
from t2t_mm.answers import Answer, Score
from t2t_mm.checkpoint_folders import located
from t2t_mm.decode_settings import DecodeHParams, decode_settings, refuse_keywords
from t2t_mm.decoding import make_scorer
from t2t_mm.explanation import Attention, Trace, trace
from t2t_mm.input_pipeline import batch_signature
from t2t_mm.models import build_model
from t2t_mm.pairing import paired
from t2t_mm.prediction import LONGER, answers, compiled, serving
from t2t_mm.problem import CLASS_LABEL, TEXT, Problem, get_problem
from t2t_mm.vocabulary import EOS_ID, vocabulary_sizes


class Run:
    """A trained model with its problems and vocabularies, ready to answer.

    It may be asked from several threads at once. What a question needs is compiled when
    it is first asked; `warm_up` does that beforehand.

    Attributes:
      run_dir: where the run lies.
      data_dir: where its data lies, or lay.
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
        run_dir, checkpoint = located(run_dir)
        record = run_settings.load_run_record(run_dir)
        saved = configuration.load_hparams(run_dir)
        if record is None or saved is None:
            raise FileNotFoundError(
                f"{run_dir} holds no run: {run_settings.RUN_FILE} or "
                f"{configuration.HPARAMS_FILE} is not there; expected the --output_dir "
                "of mm-trainer, or a checkpoint in it. Check the path, or train first."
            )
        if checkpoint and step is not None:
            raise ValueError(
                f"The checkpoint {checkpoint} came with step {step}; expected one of "
                "the two. Leave the step out."
            )
        self.run_dir = run_dir
        self.record = record
        self.data_dir = data_dir or record["data_dir"]
        self.hparams = saved[0]
        self.problems = {name: get_problem(name) for name in record["problems"]}
        problems = list(self.problems.values())
        self.vocabularies = kept.load(
            problems,
            record.get("vocabularies", {}),
            run_dir,
            trained_on=record["data_dir"],
            data_dir=data_dir,
        )
        sizes = vocabulary_sizes(problems, self.vocabularies)
        self.model = build_model(record["model"], self.hparams, problems, sizes)
        if checkpoint:
            self.step = checkpoints.restore_weights(self.model, checkpoint)
        else:
            self.step = checkpoints.restore_for_inference(self.model, run_dir, step)

    def __repr__(self) -> str:
        """Shows what was loaded: `<Run runs/eight: 8 problems, step 5700>`."""
        number = len(self.problems)
        problems = "1 problem" if number == 1 else f"{number} problems"
        return f"<Run {self.run_dir}: {problems}, step {self.step}>"

    def use_checkpoint(self, path: str) -> None:
        """Loads other weights of the same network; what is compiled stays.

        Not while other threads ask: they would see some of both.

        Args:
          path: prefix of the checkpoint.

        Raises:
          ValueError: if it is broken or another model's.
        """
        self.step = checkpoints.restore_weights(self.model, path)
        self.__dict__.pop("fingerprint", None)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex sha256 of the weights: equal for equal networks, wherever they lie."""
        digest = hashlib.sha256()
        for variable in self.model.trainable_variables:
            digest.update(variable.path.encode())
            digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
        return digest.hexdigest()

    @property
    def commands(self) -> tuple[str, ...]:
        """Every command that the run was trained with."""
        return tuple(self.model.commands.names)

    def problem(self, name: str, command: str | None = None) -> Problem:
        """Gives one of the run's problems, or its inputs under another command.

        Args:
          name: of a problem of the run.
          command: what to ask of its inputs; None for what it was trained to give. Any
            command of the run will do, also where no problem joins the two.

        Raises:
          ValueError: if the run was not trained on it, or knows no such command.
        """
        if name not in self.problems:
            raise ValueError(
                f"The run in {self.run_dir} knows no problem '{name}'; it was trained "
                f"on {', '.join(self.problems)}. Choose one of them."
            )
        problem = self.problems[name]
        if command is None or command == problem.command:
            return problem
        self.model.commands.token(command)  # refuses a name that it does not know
        return paired(problem, command, tuple(self.problems.values()))

    def max_target_length(self, name: str, command: str | None = None) -> int:
        """Gives how long an answer may get: the longest training target, and a bit."""
        wanted = self.problem(name, command)
        if wanted.targets.modality != TEXT:
            return 1
        same = [p for p in self.problems.values() if p.targets == wanted.targets]
        trained = [p for p in same if p.command == wanted.command] or same
        known = self.record.get("longest_targets")
        if known is None:  # a run from before run.json said it
            known = kept.longest_targets(trained, self.data_dir)
        longest = max(known[problem.name] for problem in trained)
        return min(longest + LONGER, self.hparams.max_length)

    def generate(
        self,
        problem: str,
        inputs: Any,
        *,
        command: str | None = None,
        decode_hparams: str | Mapping[str, Any] | DecodeHParams | None = None,
        prefix: str | Sequence[str] | None = None,
        first: int = 0,
        **unknown: Any,
    ) -> Any:
        """Answers one raw input, or many in their order.

        Args:
          problem: the name of one of the run's problems.
          inputs: one, or a list. Text problems take strings; pictures come as paths,
            bytes of files, PIL images or arrays (`raw_inputs.picture_of`), sounds as
            paths, bytes, arrays or (array, sample rate) (`raw_inputs.sound_of`).
          command: asks for another product, such as "To-German" of a picture.
          decode_hparams: how to search: "beam_size=4,alpha=0.6", a dict or settings.
          prefix: how the answer must begin, for all inputs or one for each.
          first: the number of the first input; what is drawn by chance for an input
            depends on its number and the seed.

        Returns:
          An `Answer`, or a list of them where a list came.

        Raises:
          ValueError, TypeError: if an input cannot be read as the problem's modality.
          TypeError: if there is no such keyword.
        """
        refuse_keywords(unknown, "command", "decode_hparams", "prefix", "first")
        wanted = self.problem(problem, command)
        settings = decode_settings(decode_hparams)
        longest = self.max_target_length(problem, command)
        many = [inputs] if raw_inputs.is_one(inputs) else list(inputs)
        prefixes = _for_each(prefix, many, "prefix")
        is_text = wanted.inputs.modality == TEXT

        def answer(batch: Mapping[str, Any], rows: list[int]) -> list[Answer]:
            return answers(
                self.model,
                wanted,
                batch,
                self.vocabularies,
                settings=settings,
                max_length=longest,
                prefixes=None if prefixes is None else [prefixes[i] for i in rows],
                sources=[many[i] for i in rows] if is_text else None,
                row_numbers=[first + i for i in rows],
            )

        found = self._in_batches(wanted, many, settings.batch_size, answer)
        return found[0] if raw_inputs.is_one(inputs) else found

    def score(
        self,
        problem: str,
        inputs: Any,
        targets: Any,
        *,
        command: str | None = None,
        batch_size: int = 32,
    ) -> Any:
        """Tells how likely the network finds given targets.

        Args:
          problem, inputs, command: as `generate`.
          targets: a text or label for one input, a list of them for a list.
          batch_size: how many are scored at once.

        Returns:
          A `Score`, or a list of them where a list came.

        Raises:
          ValueError: if there is not one target for each input, or a label is none.
        """
        wanted = self.problem(problem, command)
        many = [inputs] if raw_inputs.is_one(inputs) else list(inputs)
        wished = [targets] if raw_inputs.is_one(targets) else list(targets)
        if len(many) != len(wished):
            raise ValueError(
                f"{len(many)} inputs came with {len(wished)} targets; expected one for "
                "each. Give as many of both."
            )
        ids = raw_targets.encode_targets(wanted.targets, wished, self.vocabularies)
        scores_of = compiled(
            self.model,
            ("score", wanted.inputs, wanted.targets),
            lambda proxy: make_scorer(
                serving(proxy, wanted), wanted.name, batch_signature(wanted)
            ),
        )
        token = self.model.commands.token(wanted.command)

        def score(batch: dict[str, Any], rows: list[int]) -> list[Score]:
            padded = raw_targets.padded([ids[i] for i in rows])
            batch |= {"targets": padded, "targets_mask": padded > 0}
            if wanted.targets.modality == CLASS_LABEL:
                batch["targets_mask"] = np.ones_like(padded, bool)
            found = np.asarray(scores_of(batch, token))
            return [
                self._score(wanted, ids[i], row)
                for i, row in zip(rows, found, strict=True)
            ]

        found = self._in_batches(wanted, many, batch_size, score)
        return found[0] if raw_inputs.is_one(inputs) else found

    def attention(
        self, problem: str, input: Any, target: str | None = None, **options: Any
    ) -> Attention:
        """Tells what each target looked at, layer by layer and head by head.

        Args:
          problem: the name of one of the run's problems.
          input: one input, as `generate` takes it.
          target: a text or label; by default the network's own answer.
          **options: `command` and `decode_hparams`, as of `generate`.
        """
        return self.trace(problem, input, target, **options).attention

    def expert_use(
        self, problem: str, input: Any, target: str | None = None, **options: Any
    ) -> dict[str, np.ndarray]:
        """Tells which experts answered: by layer, the share of each, float32 [E].

        The shares of a layer add up to 1; a model without experts gives an empty dict.

        Args: as `attention`.
        """
        return self.trace(problem, input, target, **options).expert_use

    def trace(
        self,
        problem: str,
        input: Any,
        target: str | None = None,
        *,
        command: str | None = None,
        decode_hparams: str | Mapping[str, Any] | DecodeHParams | None = None,
    ) -> Trace:
        """Gives `attention` and `expert_use` together, from one pass.

        Args:
          problem, input, target: as `attention`.
          command, decode_hparams: as `generate`.
        """
        wanted = self.problem(problem, command)
        if target is not None:
            ids = raw_targets.encode_targets(
                wanted.targets, [target], self.vocabularies
            )[0]
        else:
            answer = self.generate(
                problem, [input], command=command, decode_hparams=decode_hparams
            )[0]
            ids = [*answer.ids, EOS_ID]
            if wanted.targets.modality == CLASS_LABEL:
                ids = [wanted.targets.labels.index(answer.output)]
        return trace(self.model, wanted, input, ids, self.vocabularies)

    def _score(self, problem: Problem, ids: Sequence[int], row: np.ndarray) -> Score:
        values = [float(value) for value in row[: len(ids)]]
        tokens = raw_targets.token_texts(problem.targets, ids, self.vocabularies)
        return Score(float(np.sum(values)), tokens, tuple(values))

    def _in_batches(
        self,
        problem: Problem,
        inputs: Sequence[Any],
        batch_size: int,
        work: Callable[[dict[str, Any], list[int]], list[Any]],
    ) -> list[Any]:
        """Gives the result for each input; inputs of like length share a batch."""
        lengths = [raw_inputs.length_of(problem.inputs, one) for one in inputs]
        found: list[Any] = [None] * len(inputs)
        for rows in raw_inputs.plan_batches(problem.inputs, lengths, batch_size):
            batch = raw_inputs.make_batch(
                problem.inputs, [inputs[i] for i in rows], self.vocabularies
            )
            for i, result in zip(rows, work(batch, rows), strict=True):
                found[i] = result
        return found

    def warm_up(
        self,
        problems: Sequence[str] | None = None,
        *,
        decode_hparams: str | Mapping[str, Any] | DecodeHParams | None = None,
    ) -> None:
        """Compiles what `generate` will need, so that the first answer is a fast one.

        Args:
          problems: their names; None for all of the run.
          decode_hparams: as they will be given to `generate`.
        """
        for name in problems or self.problems:
            example = raw_inputs.smallest(self.problem(name).inputs)
            settings = decode_settings(decode_hparams)
            if not settings.max_length:
                settings = dataclasses.replace(
                    settings, max_length=settings.min_length + 2
                )
            self.generate(name, example, decode_hparams=settings)


def _for_each(value: Any, inputs: Sequence[Any], name: str) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return [value] * len(inputs)
    if len(value) != len(inputs):
        raise ValueError(
            f"{len(value)} values of {name} came with {len(inputs)} inputs; expected "
            "one for all, or one for each. Give as many of both."
        )
    return list(value)


def load_run(
    run_dir: str | os.PathLike,
    *,
    data_dir: str | None = None,
    step: int | str | None = None,
) -> Run:
    """Loads a trained run.

    Args:
      run_dir: the `--output_dir` of mm-trainer or mm-average, or a checkpoint in it,
        "run/checkpoints/ckpt-5000".
      data_dir: where to take the vocabularies from; by default the run's own copies.
      step: of the checkpoint; None for the newest, "best" for the best.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if checkpoint or vocabulary do not fit it.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(run_dir)))
    return Run(path, data_dir=data_dir, step=step)
