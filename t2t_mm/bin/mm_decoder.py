"""Decodes with a trained run: a file, a data split, or what you type.

Text problems take a sentence per line; picture and sound problems the path of a file
per line (PNG, JPEG; WAV, FLAC, OGG, MP3). Examples:

  mm-decoder --output_dir=run --problem=translate_ende_home
  mm-decoder --output_dir=run --problem=translate_ende_home \\
      --decode_from_file=in.txt --decode_to_file=out.txt
  mm-decoder --output_dir=run --problem=translate_ende_home \\
      --decode_hparams=beam_size=4,alpha=0.6,num_return=3 --scores
  mm-decoder --output_dir=run --problem=caption_emoji --split=test --limit=10
  mm-decoder --output_dir=run --problem=translate_ende_home --score_file=pairs.tsv
  echo banana.png | mm-decoder --output_dir=run --problem=caption_emoji \\
      --command=To-German

--decode_to_file is there when it is whole; killed, the same command goes on.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from absl import flags

from t2t_mm.bin import command, run_flags, threads
from t2t_mm.files import check_lines, check_place

if TYPE_CHECKING:
    from t2t_mm.answers import Answer
    from t2t_mm.inference import Run

_DROPPED = {
    "batch_size": "Use --decode_hparams=batch_size=64.",
    "max_length": "Use --decode_hparams=max_length=50.",
    "decode_interactive": "Leave --decode_from_file and --split out.",
    "decode_in_memory": "Files are read as they are needed; leave it out.",
    "decode_shards": "Cut the input with split(1) and start a command for each part.",
    "keep_timestamp": "Answers do not depend on a file's time; leave it out.",
    "model": "The run knows its model.",
    "hparams_set": "The run knows its hparams.",
    "hparams": "The run knows its hparams; --decode_hparams says how to search.",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-decoder."""
    command.define_run_flags(values)
    run_flags.define_checkpoint_flags(values)
    flags.DEFINE_string(
        "problem",
        None,
        "one of the run's problems, or the .toml or line that declared it",
        flag_values=values,
    )
    command.define_path(
        values, "decode_from_file", None, "inputs, a line each; - for standard input"
    )
    command.define_path(
        values,
        "score_file",
        None,
        "lines of input, tab, target: writes each target's log-probability",
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
    run_flags.define_decode_hparams(values)
    flags.DEFINE_string(
        "command",
        None,
        "ask for another product than the problem's: To-German",
        flag_values=values,
    )
    flags.DEFINE_string(
        "prefix", None, "how every answer must begin", flag_values=values
    )
    flags.DEFINE_bool(
        "scores",
        False,
        "log-probability, tab, then answer; for each of several answers",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "chunk_lines",
        2000,
        "lines of a file between two saves, sorted by length among themselves",
        lower_bound=1,
        flag_values=values,
    )
    threads.define_thread_flags(values)
    command.define_dropped_flags(values, _DROPPED)


def decode(values: flags.FlagValues) -> None:
    """Does what the flags say."""
    settings = run_flags.decode_settings_from_flags(values)
    _check_flags(values, settings)
    with run_flags.loaded_run(values) as run:
        problem = run_flags.problem_asked(run, values.problem, values.command)
        values["problem"].value = problem
        if values.split:
            _decode_split(run, settings, values)
        elif values.score_file or values.decode_from_file or not sys.stdin.isatty():
            _decode_file(run, settings, values)
        else:
            _converse(run, settings, values)


def _check_flags(values: flags.FlagValues, settings: Any) -> None:
    """Refuses flags that contradict each other, and places where nothing can go."""
    names = ("split", "decode_from_file", "score_file")
    given = [name for name in names if values[name].value]
    if len(given) > 1:
        raise ValueError(
            f"--{' and --'.join(given)} came together; expected one of them. "
            "Leave the others out."
        )
    for name in names[1:]:
        path = values[name].value
        if path not in (None, "-"):
            check_lines(path, f"--{name}")
    is_searching = (
        values.prefix
        or values.scores
        or settings != type(settings)(batch_size=settings.batch_size)
    )
    if values.score_file and is_searching:
        raise ValueError(
            "--score_file came with --prefix, --scores or --decode_hparams; expected "
            "of them a batch_size alone, since targets are given. Leave the rest out."
        )
    if values.decode_to_file:
        source = values.decode_from_file or values.score_file or ""
        if os.path.exists(source) and os.path.exists(values.decode_to_file):
            if os.path.samefile(source, values.decode_to_file):
                raise ValueError(
                    f"--decode_to_file={values.decode_to_file} is the file of the "
                    "inputs; expected another, so that they are kept. Name one."
                )
        check_place(values.decode_to_file, "--decode_to_file")


def _converse(run: "Run", settings: Any, values: flags.FlagValues) -> None:
    from t2t_mm.bin.prompt import Prompt

    given = [f"--{name}" for name in ("decode_to_file", "limit") if values[name].value]
    if given:
        raise ValueError(
            f"{' and '.join(given)} came without inputs; expected "
            "--decode_from_file or --split beside. Leave out what is not for typing."
        )
    Prompt(
        run,
        values.problem,
        settings,
        values.command,
        prefix=values.prefix,
        with_scores=values.scores,
    ).converse()


def _columns(answer: "Answer", values: flags.FlagValues) -> str:
    """Gives an answer as a line; its alternatives follow behind tabs."""
    columns = []
    for one in answer.best_few:
        if values.scores:
            columns.append(f"{one.score:.4f}")
        columns.append(_escaped(one.output, is_column=bool(answer.alternatives)))
    return "\t".join(columns)


def _escaped(text: str, *, is_column: bool) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return text.replace("\t", "\\t") if is_column else text


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
    else:
        with open(name, "rb") as file:
            yield file


def _decode_file(run: "Run", settings: Any, values: flags.FlagValues) -> None:
    """Decodes a file; paths in it are relative to its folder."""
    from t2t_mm import resumable_lines

    name = values.score_file or values.decode_from_file or "-"
    folder = os.path.dirname(name)

    def answer(lines: Sequence[str], first: int) -> list[str]:
        if values.score_file:
            return _scored(run, lines, first, settings, values)
        inputs = _inputs(run, lines, folder, values)
        found = run.generate(
            values.problem,
            inputs,
            command=values.command,
            decode_hparams=settings,
            prefix=values.prefix,
            first=first,
        )
        return [_columns(one, values) for one in found]

    with _opened(name) as source:
        if not values.decode_to_file:
            for chunk in resumable_lines.read_chunks(
                source, name, values.chunk_lines, limit=values.limit
            ):
                rows = answer([line.text for line in chunk], chunk[0].number)
                sys.stdout.write("".join(f"{row}\n" for row in rows))
                sys.stdout.flush()
            return
        count = resumable_lines.answer_lines(
            source,
            name,
            values.decode_to_file,
            answer,
            settings=_what_decides(run, settings, values),
            chunk_lines=values.chunk_lines,
            limit=values.limit,
            say=_say,
        )
    _say(f"{count} lines written to {values.decode_to_file}")


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _inputs(
    run: "Run", lines: Sequence[str], folder: str, values: flags.FlagValues
) -> list[str]:
    from t2t_mm.problem import TEXT

    if run.problem(values.problem).inputs.modality == TEXT:
        return list(lines)
    return [os.path.join(folder, line) for line in lines]


def _scored(
    run: "Run",
    lines: Sequence[str],
    first: int,
    settings: Any,
    values: flags.FlagValues,
) -> list[str]:
    name = values.score_file
    pairs = [line.split("\t") for line in lines]
    for number, pair in enumerate(pairs, first + 1):
        if len(pair) != 2:
            raise ValueError(
                f"Line {number} of {name} has {len(pair) - 1} tabs; expected one, "
                "between input and target. Correct the line."
            )
    found = run.score(
        values.problem,
        _inputs(run, [pair[0] for pair in pairs], os.path.dirname(name), values),
        [pair[1] for pair in pairs],
        command=values.command,
        batch_size=settings.batch_size,
    )
    return [f"{float(one):.6f}" for one in found]


def _what_decides(run: "Run", settings: Any, values: flags.FlagValues) -> dict:
    """Gives all that answers depend on, beside the input."""
    import dataclasses

    return {
        "checkpoint": run.fingerprint,
        "task": "scores" if values.score_file else "answers",
        "problem": values.problem,
        "command": values.command,
        "prefix": values.prefix,
        "scores": values.scores,
        **dataclasses.asdict(settings),  # one by one, to name the one that differs
    }


def _decode_split(run: "Run", settings: Any, values: flags.FlagValues) -> None:
    """Decodes a split: to a file outputs alone, to the screen with their inputs."""
    from t2t_mm import input_pipeline, prediction, samples

    problem = run.problem(values.problem)
    wanted = run.problem(values.problem, values.command)
    if values.split not in problem.splits:
        raise ValueError(
            f"Problem '{problem.name}' has no split '{values.split}'; expected one of "
            f"{', '.join(problem.splits)}. Choose one."
        )
    lines: list[str] = []
    for batch in input_pipeline.evaluation_batches(
        problem, values.split, run.data_dir, run.hparams, limit=values.limit
    ):
        count = len(batch["inputs"])
        found = prediction.answers(
            run.model,
            wanted,
            batch,
            run.vocabularies,
            settings=settings,
            max_length=run.max_target_length(problem.name, values.command),
            prefixes=[values.prefix] * count if values.prefix else None,
            row_numbers=range(len(lines), len(lines) + count),
        )
        for i, answer in enumerate(found):
            lines.append(_columns(answer, values))
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
        from t2t_mm.files import write_atomically

        text = "".join(f"{line}\n" for line in lines)
        write_atomically(values.decode_to_file, text.encode())
        _say(f"{len(lines)} lines written to {values.decode_to_file}")


def main(argv: list[str] | None = None) -> int:
    """Runs mm-decoder; gives its exit code."""
    return command.run(
        "mm-decoder", decode, __doc__, define_flags, argv, required=("problem",)
    )


if __name__ == "__main__":
    sys.exit(main())
