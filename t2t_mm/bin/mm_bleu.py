"""Scores translations with sacreBLEU: a file, or every checkpoint of a run.

mm-bleu --translation=out.txt --reference=wanted.txt
mm-bleu --output_dir=run --problem=translate_ende_home
mm-bleu --output_dir=run --problem=translate_ende_home --source=in.txt \\
    --reference=wanted.txt --decode_hparams=beam_size=4

Prints BLEU with and without regard to case, and chrF, each with its signature. Of a run
it scores what it has not scored yet, adds a line per checkpoint to
<output_dir>/bleu.jsonl, and curves for TensorBoard to <output_dir>/bleu.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from t2t_mm.bin import command, run_flags, threads
from t2t_mm.files import check_lines

_POLL_SECONDS = 10.0
_OF_A_RUN = (
    *("output_dir", "checkpoint_path", "data_dir", "step", "problem", "split"),
    *("limit", "decode_hparams", "min_steps", "wait_minutes"),
    *("gin_file", "gin_binding"),
    *(threads.INTRA, threads.INTER),
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-bleu."""
    command.define_run_flags(values)
    run_flags.define_checkpoint_flags(values)
    command.define_path(values, "translation", None, "a file of translations")
    command.define_path(values, "reference", None, "what they should be, line by line")
    command.define_path(
        values,
        "source",
        None,
        "the texts before translation: scored as they are, beside --translation; "
        "translated, with a run",
    )
    flags.DEFINE_string(
        "problem", None, "which of the run's problems translates", flag_values=values
    )
    flags.DEFINE_string(
        "split",
        None,
        "split of the problem that is translated; by default its first test split",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "limit", None, "translate that many only", lower_bound=1, flag_values=values
    )
    run_flags.define_decode_hparams(values)
    flags.DEFINE_integer(
        "min_steps",
        0,
        "leave out checkpoints of fewer steps",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_float(
        "wait_minutes",
        0.0,
        "wait for further checkpoints until none has come for that long",
        lower_bound=0,
        flag_values=values,
    )
    threads.define_thread_flags(values)
    command.define_dropped_flags(
        values,
        {
            "translations_dir": "Use --output_dir and --problem: it translates, too.",
            "event_dir": "Curves lie in <output_dir>/bleu.",
            "bleu_variant": "Both are printed.",
            "tag_suffix": "Curves are named after problem and split.",
            "report_zero": "Leave it out.",
        },
    )


def score(values: flags.FlagValues) -> None:
    """Does what the flags say."""
    for name in ("translation", "reference", "source"):
        path = values[name].value
        if path and values.reference:
            check_lines(path, f"--{name}")
    if values.translation:
        _refuse(values, "--translation", _OF_A_RUN)
        if not values.reference:
            raise ValueError(
                f"--translation={values.translation} came without --reference; "
                "expected the file of what it should be. Give it."
            )
        _score_files(values)
        return
    if not (values.output_dir or values.checkpoint_path) or not values.problem:
        raise ValueError(
            "Neither --translation nor --output_dir with --problem came; expected a "
            "file to score, or a run. `mm-bleu --help` shows examples."
        )
    if bool(values.source) != bool(values.reference):
        raise ValueError(
            "--source and --reference: only one of them came; expected both, or "
            "neither to score a split. Give the other one."
        )
    if values.source:
        _refuse(values, "--source", ("split",))
    for flag in ("step", "checkpoint_path"):
        if values[flag].value:
            _refuse(values, f"--{flag}", ("min_steps", "wait_minutes"))
    settings = run_flags.decode_settings_from_flags(values)
    with run_flags.loaded_run(values) as run:
        _score_run(run, settings, values)


def _refuse(values: flags.FlagValues, flag: str, others: Sequence[str]) -> None:
    given = [f"--{name}" for name in others if values[name].value]
    if given:
        raise ValueError(
            f"{flag} came with {' '.join(given)}; expected the one or the other. Leave "
            "one out."
        )


def _score_files(values: flags.FlagValues) -> None:
    from t2t_mm import bleu

    references = bleu.read_lines(values.reference)
    found = bleu.scores(references, bleu.read_lines(values.translation))
    lines = [
        f"{name:<13}{one['score']:6.2f}  {one['signature']}"
        for name, one in found.items()
    ]
    if values.source:
        copied = bleu.scores(references, _sources(values))
        text = ", ".join(f"{name} {one['score']:.2f}" for name, one in copied.items())
        lines.append(f"untranslated: {text}")
    print("\n".join(lines))


def _sources(values: flags.FlagValues) -> list[str]:
    """Gives the lines of --source, once there are as many as of --reference."""
    from t2t_mm import bleu

    sources = bleu.read_lines(values.source)
    count = len(bleu.read_lines(values.reference))
    if len(sources) != count or not sources:
        raise ValueError(
            f"--source={values.source} has {len(sources)} lines and --reference="
            f"{values.reference} {count}; expected as many, and at least one. Name "
            "files of the same sentences."
        )
    return sources


def _score_run(run: Any, settings: Any, values: flags.FlagValues) -> None:
    """Scores one named checkpoint, or each of the run that was not scored yet."""
    from t2t_mm import bleu, checkpoint_folders
    from t2t_mm.problem import TEXT

    values["problem"].value = run_flags.problem_asked(run, values.problem)
    problem = run.problem(values.problem)
    if problem.targets.modality != TEXT:
        raise ValueError(
            f"--problem={problem.name} answers with labels; expected a problem whose "
            "answers are texts. Use mm-eval for this one."
        )
    what = _what(problem, settings, values)
    header = f"{'step':>9}  {'bleu':>6}  {'uncased':>7}  {'chrf':>6}"
    known = [one for one in bleu.read_records(run.run_dir) if _is_of(one, what)]
    print(header)
    for one in known:
        print(_row(one["step"], one["scores"]))
    found = None
    for step in _steps(run, {one["step"] for one in known}, values):
        found = _score_checkpoint(run, settings, values)
        bleu.add_record(run.run_dir, {"step": step, **what, "scores": found})
        _add_curves(run.run_dir, what, step, found)
        print(_row(step, found), flush=True)
    found = found or (known[-1]["scores"] if known else None)
    if found is None:
        there = ", ".join(
            map(str, sorted(checkpoint_folders.checkpoints_of(run.run_dir)))
        )
        raise ValueError(
            f"{run.run_dir} has no checkpoint of --min_steps={values.min_steps} or "
            f"more; expected one to score. It has: {there or 'none'}."
        )
    for name, one in found.items():
        print(f"{name}: {one['signature']}")


def _what(problem: Any, settings: Any, values: flags.FlagValues) -> dict[str, Any]:
    """Gives what a score is of, beside the step."""
    from t2t_mm.files import sha256_of

    what: dict[str, Any] = {
        "problem": problem.name,
        "limit": values.limit,
        "decode_hparams": dataclasses.asdict(settings),
    }
    if values.source:
        _sources(values)
        paths = (values.source, values.reference)
        return what | {"files": [[os.path.basename(p), sha256_of(p)] for p in paths]}
    split = values.split or problem.test_splits[0]
    if split not in problem.splits:
        raise ValueError(
            f"Problem '{problem.name}' has no split '{split}'; expected one of "
            f"{', '.join(problem.splits)}. Choose one."
        )
    return what | {"split": split}


def _is_of(record: Mapping[str, Any], what: Mapping[str, Any]) -> bool:
    return all(record.get(name) == value for name, value in what.items())


def _row(step: int, found: Mapping[str, Any]) -> str:
    bleu, uncased, chrf = (one["score"] for one in found.values())
    return f"{step:>9,}  {bleu:6.2f}  {uncased:7.2f}  {chrf:6.2f}"


def _steps(run: Any, known: set[int], values: flags.FlagValues) -> Iterator[int]:
    """Loads one checkpoint after the other that is not known, and gives its step."""
    from t2t_mm import checkpoint_folders

    if values.checkpoint_path or values.step:
        if run.step not in known:
            yield run.step
        return
    until = time.monotonic()
    while True:
        for step, path in sorted(
            checkpoint_folders.checkpoints_of(run.run_dir).items()
        ):
            if step < values.min_steps or step in known:
                continue
            run.use_checkpoint(path)
            known.add(step)
            yield step
            until = time.monotonic() + 60 * values.wait_minutes
        if time.monotonic() >= until:
            return
        time.sleep(_POLL_SECONDS)


def _score_checkpoint(
    run: Any, settings: Any, values: flags.FlagValues
) -> dict[str, dict[str, Any]]:
    from t2t_mm import bleu, evaluation

    if values.source:
        sources = _sources(values)[: values.limit]
        references = bleu.read_lines(values.reference)[: values.limit]
        found = run.generate(values.problem, sources, decode_hparams=settings)
        return bleu.scores(references, [answer.output for answer in found])
    problem = run.problem(values.problem)
    decoded = evaluation.decode_split(
        run.model,
        problem,
        values.split or problem.test_splits[0],
        run.data_dir,
        run.hparams,
        run.vocabularies,
        limit=values.limit,
        settings=settings,
    )
    return bleu.scores(decoded.references, decoded.predictions)


def _add_curves(
    run_dir: str, what: Mapping[str, Any], step: int, found: Mapping[str, Any]
) -> None:
    import tensorflow as tf

    folder = what.get("split") or what["files"][0][0]
    writer = tf.summary.create_file_writer(os.path.join(run_dir, "bleu"))
    with writer.as_default():
        for name, one in found.items():
            tag = f"{name}/{what['problem']}/{folder}"
            tf.summary.scalar(tag, one["score"], step=step)
    writer.close()


def main(argv: list[str] | None = None) -> int:
    """Runs mm-bleu; gives its exit code."""
    return command.run("mm-bleu", score, __doc__, define_flags, argv)


if __name__ == "__main__":
    sys.exit(main())
