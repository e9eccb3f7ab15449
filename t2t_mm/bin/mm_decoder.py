"""Decodes with a trained run: a file, a data split, or what you type.

Text problems take a sentence per line; picture and sound problems the path of a PNG,
JPEG or WAV file per line. Examples:

  mm-decoder --output_dir=run --problem=translate_ende_home
  mm-decoder --output_dir=run --problem=translate_ende_home \\
      --decode_from_file=in.txt --decode_to_file=out.txt
  mm-decoder --output_dir=run --problem=caption_emoji --split=test --limit=10
  echo banana.png | mm-decoder --output_dir=run --problem=caption_emoji \\
      --command=To-German
"""

import os
import sys
from typing import TYPE_CHECKING

from absl import flags

from t2t_mm.bin import command

if TYPE_CHECKING:
    from t2t_mm.inference import Answer, Run

_DROPPED = {
    "decode_interactive": "Leave --decode_from_file and --split out.",
    "model": "The run knows its model.",
    "hparams_set": "The run knows its hparams.",
    "hparams": "The run knows its hparams.",
    "checkpoint_path": "Use --output_dir and --step.",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-decoder."""
    command.define_run_flags(values)
    flags.DEFINE_string(
        "problem", None, "one of the run's problems", flag_values=values
    )
    command.define_path(values, "data_dir", None, "by default as the run was trained")
    flags.DEFINE_string(
        "step",
        None,
        "a checkpoint's step, or best; default: newest",
        flag_values=values,
    )
    command.define_path(
        values, "decode_from_file", None, "inputs, a line each; - for standard input"
    )
    command.define_path(
        values, "decode_to_file", None, "outputs, a line each; default: standard output"
    )
    flags.DEFINE_string(
        "split", None, "decode this split of the data", flag_values=values
    )
    flags.DEFINE_integer(
        "limit", None, "decode that many only", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "batch_size", 32, "inputs decoded at once", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "max_length",
        None,
        "longest output, tokens; default: the longest training target",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "command",
        None,
        "ask for another product than the problem's: To-German",
        flag_values=values,
    )
    flags.DEFINE_bool("scores", False, "score, tab, then output", flag_values=values)
    command.define_dropped_flags(values, _DROPPED)


def decode(values: flags.FlagValues) -> None:
    """Does what the flags say."""
    if values.split and values.decode_from_file:
        raise ValueError(
            "--split and --decode_from_file both came; expected one of them. "
            "Leave one out."
        )
    if values.decode_from_file not in (None, "-"):
        _check_file(values.decode_from_file)
    command.load_zoo(values.t2t_usr_dir)
    command.start_tensorflow(values)
    from t2t_mm import inference

    command.read_gin(values)

    step = int(values.step) if values.step and values.step.isdigit() else values.step
    run = inference.load_run(values.output_dir, data_dir=values.data_dir, step=step)
    run.problem(values.problem)
    if values.split:
        _decode_split(run, values)
    elif values.decode_from_file or not sys.stdin.isatty():
        _decode_file(run, values)
    else:
        _converse(run, values)


def _check_file(path: str) -> None:
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"--decode_from_file={path} is not a file; expected one with an input per "
            "line. Check the path."
        )


def _answers(run: "Run", inputs: list[str], values: flags.FlagValues) -> "list[Answer]":
    return run.generate(
        values.problem,
        inputs,
        batch_size=values.batch_size,
        max_length=values.max_length,
        command=values.command,
    )


def _line(answer: "Answer", values: flags.FlagValues) -> str:
    text = answer.output.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{answer.score:.4f}\t{text}" if values.scores else text


def _decode_file(run: "Run", values: flags.FlagValues) -> None:
    """Decodes a line at a time; paths are relative to the file's folder."""
    from t2t_mm.problem import TEXT

    name = values.decode_from_file
    if name in (None, "-"):
        content, folder = sys.stdin.buffer.read(), "."
    else:
        with open(name, "rb") as file:
            content = file.read()
        folder = os.path.dirname(name)
    try:
        lines = content.decode("utf-8").splitlines()[: values.limit]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is no UTF-8 at byte {error.start}; text was expected. Convert it, "
            "with iconv for example."
        ) from error
    if run.problem(values.problem).inputs.modality != TEXT:
        lines = [os.path.join(folder, line) for line in lines]
    found = _answers(run, lines, values) if lines else []
    _write([_line(answer, values) for answer in found], values)


def _write(lines: list[str], values: flags.FlagValues) -> None:
    text = "".join(line + "\n" for line in lines)
    if values.decode_to_file:
        from t2t_mm.files import write_atomically

        write_atomically(values.decode_to_file, text.encode())
        print(f"{len(lines)} lines written to {values.decode_to_file}", file=sys.stderr)
    else:
        sys.stdout.write(text)


def _decode_split(run: "Run", values: flags.FlagValues) -> None:
    """Decodes a split: to a file outputs alone, to the screen with their inputs."""
    from t2t_mm import inference, input_pipeline, samples

    problem = run.problem(values.problem)
    if values.split not in problem.splits:
        raise ValueError(
            f"Problem '{problem.name}' has no split '{values.split}'; expected one of "
            f"{', '.join(problem.splits)}. Choose one."
        )
    lines = []
    for batch in input_pipeline.evaluation_batches(
        problem, values.split, run.data_dir, run.hparams, limit=values.limit
    ):
        found = inference.answers(
            run.model,
            problem,
            batch,
            run.vocabularies,
            max_length=values.max_length or run.max_target_length(problem.name),
            command=values.command,
        )
        for i, answer in enumerate(found):
            lines.append(_line(answer, values))
            if not values.decode_to_file:
                shown = samples.as_text(
                    problem.inputs, batch["inputs"][i].numpy(), run.vocabularies
                )
                expected = samples.as_text(
                    problem.targets, batch["targets"][i].numpy(), run.vocabularies
                )
                print(f"inputs     {shown or '(' + problem.inputs.modality + ')'}")
                print(f"reference  {expected}\noutput     {lines[-1]}\n")
    if values.decode_to_file:
        _write(lines, values)


def _converse(run: "Run", values: flags.FlagValues) -> None:
    """Answers what is typed until an empty line or the end of input."""
    import readline  # noqa: F401  (gives input() a history)

    from t2t_mm.problem import TEXT

    is_text = run.problem(values.problem).inputs.modality == TEXT
    print(
        f"{values.problem} at step {run.step}. "
        f"{'Type text' if is_text else 'Type the path of a file'}; "
        "an empty line ends."
    )
    while True:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if not line:
            return
        try:
            answer = _answers(run, [line], values)[0]
        except (OSError, ValueError) as error:
            print(error)
            continue
        print(answer.output)
        for label, probability in answer.ranked:
            print(f"  {probability:6.1%}  {label}")


def main(argv: list[str] | None = None) -> int:
    """Runs mm-decoder; gives its exit code."""
    return command.run(
        "mm-decoder",
        decode,
        __doc__,
        define_flags,
        argv,
        required=("output_dir", "problem"),
    )


if __name__ == "__main__":
    sys.exit(main())
