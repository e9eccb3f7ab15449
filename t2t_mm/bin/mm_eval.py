"""Scores a run on test data: decoded answers, beside a baseline without a network.

mm-eval --output_dir=runs/mine                  every problem, every test split
mm-eval --output_dir=runs/mine --problem=a,b --split=dev --limit=100

Prints a table and writes <output_dir>/eval.json, which mm-report draws. Scores of one
checkpoint add up over several calls; another checkpoint starts the file anew.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import flags

from t2t_mm.bin import command


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-eval."""
    command.define_run_flags(values)
    flags.DEFINE_string(
        "problem",
        None,
        "which of the run's problems, or a mixture; by default all",
        flag_values=values,
    )
    command.define_path(
        values, "data_dir", None, "folder of the shards; by default the run's"
    )
    flags.DEFINE_string(
        "step",
        None,
        "step of the checkpoint, or best; by default the newest",
        flag_values=values,
    )
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
        "num_samples",
        6,
        "answers of each split to keep for the report",
        lower_bound=0,
        flag_values=values,
    )
    command.define_dropped_flags(
        values,
        {
            "checkpoint_path": "Use --output_dir with --step.",
            "eval_steps": "Use --limit, the number of examples.",
        },
    )


def score(values: flags.FlagValues) -> None:
    """Scores what the flags name; prints each row as soon as it is there."""
    command.load_zoo(values.t2t_usr_dir)
    command.start_tensorflow(values)
    from t2t_mm import evaluation, inference, manifests
    from t2t_mm.mixture import parse_problems

    command.read_gin(values)
    run = inference.load_run(
        values.output_dir, data_dir=values.data_dir, step=_step(values.step)
    )
    names = parse_problems(values.problem).problems if values.problem else run.problems
    problems = [run.problem(name) for name in names]
    for problem in problems:
        manifest = manifests.check_manifest(run.data_dir, problem)
        for split in values.split:
            evaluation.check_split(manifest, split, run.data_dir)
    record = _started_record(run)
    width = max(map(len, names))
    print(_table_row(width, "problem", "examples", "metric", "score", "baseline"))
    for problem in problems:
        for split, result in _results(run, problem, values):
            record["problems"].setdefault(problem.name, {})[split] = result
            _write(record, run.run_dir)
            print(_result_row(width, problem, split, result), flush=True)


def _step(text: str | None) -> int | str | None:
    if text is None or text == "best":
        return text
    if not text.isdigit():
        raise ValueError(
            f"--step={text}; expected the number of a checkpoint's step, or best. "
            "Leave it out for the newest."
        )
    return int(text)


def _results(
    run: Any, problem: Any, values: flags.FlagValues
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
            num_samples=values.num_samples,
            run_dir=run.run_dir,
        )
        result["baseline"] = evaluation.baseline(
            problem, split, run.data_dir, run.vocabularies
        )
        yield split, result


def _started_record(run: Any) -> dict[str, Any]:
    """Gives what eval.json holds of this checkpoint so far."""
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
        "problems": {},
    }
    earlier = run_history.read_evaluation(run.run_dir)
    if earlier.get("step") == run.step:
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
        required=("output_dir",),
        positional="output_dir",
    )


if __name__ == "__main__":
    sys.exit(main())
