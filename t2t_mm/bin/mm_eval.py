"""Scores a run on test data: decoded answers, beside a baseline without a network.

mm-eval --output_dir=runs/mine                  every problem, every test split
mm-eval --output_dir=runs/mine --problem=a,b --split=dev --limit=100
mm-eval --output_dir=runs/mine --decode_hparams=beam_size=4,alpha=0.6

Prints a table and writes <output_dir>/eval.json, which mm-report draws. Scores of one
checkpoint and one way to decode add up over several calls; others start the file anew.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from t2t_mm.bin import command, run_flags, threads


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-eval."""
    command.define_run_flags(values)
    flags.DEFINE_string(
        "problem",
        None,
        "which of the run's problems, or a mixture; by default all",
        flag_values=values,
    )
    run_flags.define_checkpoint_flags(values)
    flags.DEFINE_list(
        "split",
        [],
        "splits to score; by default the test splits of each problem",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "limit",
        None,
        "score that many examples of a split only, always the same",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "decode_limit",
        None,
        "decode only that many of them; the loss is over all",
        lower_bound=1,
        flag_values=values,
    )
    run_flags.define_decode_hparams(values)
    flags.DEFINE_integer(
        "num_samples",
        6,
        "answers of each split to keep for the report",
        lower_bound=0,
        flag_values=values,
    )
    threads.define_thread_flags(values)
    command.define_dropped_flags(
        values,
        {
            "eval_steps": "Use --limit, the number of examples.",
        },
    )


def score(values: flags.FlagValues) -> None:
    """Scores what the flags name; prints each row as soon as it is there."""
    settings = run_flags.decode_settings_from_flags(values)
    with run_flags.loaded_run(values) as run:
        _score_run(run, settings, values)


def _score_run(run: Any, settings: Any, values: flags.FlagValues) -> None:
    from t2t_mm import evaluation, manifests

    names = list(run.problems)
    if values.problem:
        names = run_flags.problems_asked(run, values.problem)
    problems = [run.problem(name) for name in names]
    for problem in problems:
        manifest = manifests.check_manifest(run.data_dir, problem)
        for split in values.split:
            evaluation.check_split(manifest, split, run.data_dir)
    record = _started_record(run, settings)
    width = max(map(len, names))
    print(_table_row(width, "problem", "examples", "metric", "score", "baseline"))
    for problem in problems:
        for split, result in _results(run, problem, settings, values):
            record["problems"].setdefault(problem.name, {})[split] = result
            _write(record, run.run_dir)
            print(_result_row(width, problem, split, result), flush=True)


def _results(
    run: Any, problem: Any, settings: Any, values: flags.FlagValues
) -> Iterator[tuple[str, dict[str, Any]]]:
    from t2t_mm import evaluation

    for split in values.split or problem.test_splits:
        result = evaluation.evaluate(
            run.model,
            problem,
            split,
            run.data_dir,
            run.hparams,
            run.vocabularies,
            limit=values.limit,
            decode_limit=values.decode_limit,
            settings=settings,
            num_samples=values.num_samples,
            run_dir=run.run_dir,
        )
        result["baseline"] = evaluation.baseline(
            problem, split, run.data_dir, run.vocabularies
        )
        yield split, result


def _started_record(run: Any, settings: Any) -> dict[str, Any]:
    """Gives what eval.json holds of this checkpoint, decoded so, so far."""
    from t2t_mm import metrics, run_history

    names = {m for problem in run.problems.values() for m in problem.metric_names}
    record = {
        "step": run.step,
        "model": run.record["model"],
        "parameters": sum(
            int(variable.shape.num_elements())
            for variable in run.model.trainable_variables
        ),
        "signatures": metrics.signatures(sorted(names)),
        "weights": run.fingerprint,
        "decode_hparams": dataclasses.asdict(settings),
        "problems": {},
    }
    earlier = run_history.read_evaluation(run.run_dir)
    same = ("weights", "decode_hparams")
    if all(earlier.get(name) == record[name] for name in same):
        record["problems"] = earlier["problems"]
    return record


def _write(record: Mapping[str, Any], run_dir: str) -> None:
    from t2t_mm.files import write_atomically
    from t2t_mm.run_history import EVAL_FILE

    content = json.dumps(record, indent=1, ensure_ascii=False)
    write_atomically(os.path.join(run_dir, EVAL_FILE), content.encode())


def _result_row(width: int, problem: Any, split: str, result: Mapping[str, Any]) -> str:
    from t2t_mm import metrics

    scores = result["metrics"]
    baseline = (result["baseline"] or {}).get("metrics", {})
    headline, *others = problem.metric_names
    is_headline = split == problem.test_splits[0]
    row = _table_row(
        width,
        problem.name if is_headline else f"  {split}",
        f"{result['examples']:,}",
        metrics.title_of(headline),
        metrics.format_score(headline, scores[headline]),
        metrics.format_score(headline, baseline.get(headline)),
    )
    also = ", ".join(
        f"{metrics.title_of(name)} {metrics.format_score(name, scores[name])}"
        for name in others
    )
    return f"{row}  {also}".rstrip()


def _table_row(width: int, name: str, *cells: str) -> str:
    examples, metric, value, baseline = cells
    return f"{name:<{width}}  {examples:>8}  {metric:<12}{value:>8}  {baseline:>8}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code."""
    return command.run(
        "mm-eval",
        score,
        __doc__,
        define_flags,
        argv,
        positional="output_dir",
    )


if __name__ == "__main__":
    sys.exit(main())
