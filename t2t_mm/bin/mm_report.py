"""Draws a run as one HTML page: scores, curves, sample outputs, expert use.

mm-report --output_dir=runs/mine    writes runs/mine/report.html

The page is one file that needs nothing else; run it again at any time, also while
mm-trainer is at work. Test scores and baselines appear once mm-eval has run.
"""

import sys
from collections.abc import Sequence

from absl import flags

from t2t_mm.bin import command


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of mm-report."""
    command.define_run_flags(values)


def write(values: flags.FlagValues) -> None:
    """Writes the report and prints its path."""
    from t2t_mm import report

    command.load_zoo(values.t2t_usr_dir)
    print(report.write_report(values.output_dir))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; gives the exit code."""
    return command.run(
        "mm-report",
        write,
        __doc__,
        define_flags,
        argv,
        required=("output_dir",),
        positional="output_dir",
        reads_gin=False,
    )


if __name__ == "__main__":
    sys.exit(main())
