"""A question -> answers: what both the JSON API and the page ask.

Knows the run; knows nothing of HTTP or of drawings. `check` is cheap and done at once,
`answer` is for the desk's worker.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from t2t_mm import registry
from t2t_mm.answers import Answer
from t2t_mm.decode_settings import DecodeHParams, decode_settings
from t2t_mm.explanation import Trace
from t2t_mm.inference import Run
from t2t_mm.problem import AUDIO, CLASS_LABEL, IMAGE, TEXT, Feature, Problem
from t2t_mm.registry import nearest_names
from t2t_mm.serving import uploads
from t2t_mm.serving.limits import (
    NOT_READABLE,
    TOO_LARGE,
    UNKNOWN,
    Limits,
    Refused,
)

_USUAL_BEAM = 4
KIND_WORDS = {TEXT: "text", IMAGE: "picture", AUDIO: "sound"}


@dataclass(frozen=True)
class Pairing:
    """One thing that can be asked: an input for a problem, under a command.

    Args:
      problem: whose modality nets read the input and write the answer.
      command: what is asked for.
      title: for people.
      is_trained: false where the network never saw the two together.
    """

    problem: str
    command: str
    title: str
    is_trained: bool


@dataclass(frozen=True)
class Question:
    """What somebody asks.

    Args:
      problem: a problem of the run.
      inputs: texts as str; pictures and sounds as the bytes of files.
      command: None for the problem's own.
      decode_hparams: settings of decoding, as `run.generate` takes them.
      explain: wants to know what the network looked at, too.
    """

    problem: str
    inputs: Sequence[str | bytes]
    command: str | None = None
    decode_hparams: str | Mapping[str, Any] | None = None
    explain: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer, and what led to it if that was asked.

    Args:
      answer: what the network said.
      trace: what it looked at and which experts answered, or None.
    """

    answer: Answer
    trace: Trace | None = None


def title_of(problem: Problem) -> str:
    """Gives the first words about a problem.

    "German -> English, short strings." becomes "German → English"; a line without an
    arrow stays as it is.
    """
    line = ""
    if problem.name in registry.problems:
        line = registry.problems.describe(problem.name)
    head, arrow, tail = line.partition(" -> ")
    if not arrow:
        return line.rstrip(".") or problem.name.replace("_", " ")
    return f"{head} → {re.split(r'[,;.(]', tail)[0].strip()}"


def product_of(command: str) -> str:
    """Gives what a command asks for: "To-German" becomes "German"."""
    return re.sub(r"^To-", "", command).replace("-", " ")


class Service:
    """Answers questions with a run, within limits.

    Args:
      run: a loaded run.
      limits: what may be asked.
    """

    def __init__(self, run: Run, limits: Limits):
        self.run = run
        self.limits = limits
        self.pairings = _pairings(list(run.problems.values()))

    @property
    def commands(self) -> list[str]:
        """Every command of the run."""
        return list(self.run.commands)

    def writes_trees(self, command: str) -> bool:
        """Tells whether the answers to a command are trees."""
        return any(
            problem.command == command and "well_formed" in problem.metric_names
            for problem in self.run.problems.values()
        )

    def problem(self, name: str) -> Problem:
        """Gives a problem of the run.

        Raises:
          Refused: 404 if there is none of that name.
        """
        if name not in self.run.problems:
            raise _unknown("problem", name, list(self.run.problems))
        return self.run.problems[name]

    def check(self, question: Question) -> None:
        """Looks at names, numbers and lengths, without unpacking anything.

        Raises:
          Refused: if something is unknown, too much or of another kind.
        """
        problem = self.problem(question.problem)
        if question.command is not None and question.command not in self.commands:
            raise _unknown("command", question.command, self.commands)
        self.settings(question.decode_hparams)
        if not 1 <= len(question.inputs) <= self.limits.max_inputs:
            raise Refused(
                TOO_LARGE if question.inputs else NOT_READABLE,
                f"{len(question.inputs)} inputs came; expected 1 to "
                f"{self.limits.max_inputs}. Send several requests.",
            )
        for one in question.inputs:
            self._check_kind(problem, one)

    def _check_kind(self, problem: Problem, one: str | bytes) -> None:
        wanted = KIND_WORDS.get(problem.inputs.modality, problem.inputs.modality)
        if isinstance(one, str) != (problem.inputs.modality == TEXT):
            came = "text" if isinstance(one, str) else "a file"
            raise Refused(
                NOT_READABLE,
                f"Problem '{problem.name}' got {came}; expected {wanted}. Send that, "
                "or choose another problem.",
            )
        if isinstance(one, str):
            uploads.checked_text(one, self.limits)

    def usual_settings(self, command: str) -> dict[str, Any]:
        """Gives how the page searches: a beam, whole trees.

        The same for all, so that few decoders are compiled.
        """
        if self._chooses_labels(command):
            return {}
        width = min(_USUAL_BEAM, self.limits.max_answers)
        return {
            "beam_size": width,
            "num_return": width,
            "well_formed_trees": self.writes_trees(command),
        }

    def _chooses_labels(self, command: str) -> bool:
        return any(
            problem.command == command and problem.targets.modality == CLASS_LABEL
            for problem in self.run.problems.values()
        )

    def settings(self, given: str | Mapping[str, Any] | None) -> DecodeHParams:
        """Gives settings of decoding that are not too much work.

        Raises:
          Refused: if they are none, or want too much.
        """
        try:
            settings = decode_settings(given)
        except (TypeError, ValueError) as error:
            raise Refused(NOT_READABLE, str(error)) from error
        if settings.jit_compile:
            raise Refused(
                TOO_LARGE,
                "decode_hparams with jit_compile=True came; this server expected no "
                "XLA, which compiles for each size of a batch. Leave it out.",
            )
        longest = self.run.hparams.max_length
        for name, most in (
            ("beam_size", self.limits.max_answers),
            ("num_return", self.limits.max_answers),
            ("max_length", longest),
            ("min_length", longest - 1),
            ("no_repeat_ngram", longest),
        ):
            if getattr(settings, name) > most:
                raise Refused(
                    TOO_LARGE,
                    f"decode_hparams with {name}={getattr(settings, name)} came; this "
                    f"server expected at most {most}. Ask for less.",
                )
        return settings

    def answer(self, question: Question) -> list[Reply]:
        """Gives a reply per input; to be called by the desk's worker.

        Raises:
          Refused: if an input cannot be read, or the engine does not take it.
        """
        problem = self.problem(question.problem)
        options: dict[str, Any] = {
            "command": question.command,
            "decode_hparams": self.settings(question.decode_hparams),
        }
        inputs = [self.read(problem.inputs, one) for one in question.inputs]
        try:
            answers = self.run.generate(problem.name, inputs, **options)
            if not question.explain:
                return [Reply(answer) for answer in answers]
            return [
                Reply(
                    answer, self.run.trace(problem.name, one, answer.output, **options)
                )
                for one, answer in zip(inputs, answers, strict=True)
            ]
        except (TypeError, ValueError) as error:
            raise Refused(NOT_READABLE, str(error)) from error

    def read(self, feature: Feature, one: str | bytes) -> Any:
        """Gives what the engine takes: a str or an array, never a path."""
        if isinstance(one, str):
            return uploads.checked_text(one, self.limits)
        return uploads.decoded(one, feature.modality, feature.sample_rate, self.limits)


def _unknown(kind: str, name: str, known: list[str]) -> Refused:
    shown = name if len(name) <= 60 else name[:57] + "..."
    shown = shown.encode("utf-8", "replace").decode()
    return Refused(
        UNKNOWN,
        f"The {kind} '{shown}' came; expected one that the run was trained with. "
        f"{nearest_names(shown, known)}",
    )


def _pairings(problems: Sequence[Problem]) -> list[Pairing]:
    """Gives every problem, then every kind of input under every other command."""
    found = [Pairing(p.name, p.command, title_of(p), True) for p in problems]
    seen = {(p.inputs, p.command) for p in problems}
    for reader in problems:
        for writer in problems:
            key = (reader.inputs, writer.command)
            if key not in seen:
                seen.add(key)
                kind = KIND_WORDS.get(reader.inputs.modality, reader.inputs.modality)
                title = f"{kind.capitalize()} → {product_of(writer.command)}"
                found.append(Pairing(reader.name, writer.command, title, False))
    return found
