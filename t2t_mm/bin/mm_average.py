"""Averages checkpoints of a run into a new run that answers.

mm-average --output_dir=run --num_last_checkpoints=3
mm-average --checkpoints=run/checkpoints/ckpt-4000,run/checkpoints/ckpt-5000 \\
    --output_path=averaged

Every command that takes a run takes the result; without --output_path it lies in
<output_dir>/averaged. mm-trainer cannot go on with it, since it has no optimizer state.
"""

import os
import sys

from absl import flags

from t2t_mm.bin import command
from t2t_mm.files import check_place


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-average."""
    command.define_run_flags(values)
    flags.DEFINE_integer(
        "num_last_checkpoints",
        None,
        "average that many of the newest checkpoints of --output_dir",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_list(
        "checkpoints",
        [],
        "average these; paths with or without ending",
        flag_values=values,
    )
    command.define_path(
        values, "prefix", "", "put before each name of --checkpoints, as it stands"
    )
    command.define_path(values, "output_path", None, "folder of the new run")
    command.define_dropped_flags(
        values,
        {
            "model_dir": "Use --output_dir, the run.",
            "n": "Use --num_last_checkpoints.",
            "min_steps": "Use --checkpoints to choose.",
            "wait_minutes": "Call mm-average when the training is done.",
        },
    )


def average(values: flags.FlagValues) -> None:
    """Does what the flags say."""
    chosen = [bool(values.num_last_checkpoints), bool(values.checkpoints)]
    if sum(chosen) != 1:
        raise ValueError(
            "--num_last_checkpoints and --checkpoints: "
            f"{'both came' if all(chosen) else 'neither came'}; expected one of them. "
            "Say how many of the newest, or which."
        )
    if values.num_last_checkpoints and not values.output_dir:
        raise ValueError(
            "--num_last_checkpoints came without --output_dir; expected the run whose "
            "checkpoints are meant. Give it."
        )
    if values.prefix and not values.checkpoints:
        raise ValueError(
            f"--prefix={values.prefix} came without --checkpoints; expected names to "
            "put it before. Leave it out."
        )
    output_path = values.output_path
    if not output_path:
        if not values.output_dir:
            raise ValueError(
                "--checkpoints came without --output_path; expected the folder of the "
                "new run. Give it."
            )
        output_path = os.path.join(values.output_dir, "averaged")
    check_place(output_path, "--output_path", is_folder=True)
    command.start_tensorflow(values)
    from t2t_mm import averaging

    if values.checkpoints:
        paths = [values.prefix + path for path in values.checkpoints]
    else:
        paths = averaging.newest(values.output_dir, values.num_last_checkpoints)
    path = averaging.average(paths, output_path)
    for one in paths:
        print(f"  {one}")
    print(f"Their mean is {path}. Use it with --output_dir={output_path}.")


def main(argv: list[str] | None = None) -> int:
    """Runs mm-average; gives its exit code."""
    return command.run(
        "mm-average",
        average,
        __doc__,
        define_flags,
        argv,
        positional="output_dir",
        reads_gin=False,
    )


if __name__ == "__main__":
    sys.exit(main())
