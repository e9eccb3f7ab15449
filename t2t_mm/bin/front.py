"""What `t2t_mm.load` is: a run with everything registered that it may be made of.

Here and not in the engine, which knows no problem by name: this is where zoo and
engine meet. Imports no TensorFlow before `load` is called.
"""

import os
from typing import TYPE_CHECKING

from t2t_mm.bin import command

if TYPE_CHECKING:
    from t2t_mm.inference import Run


def load(
    run_dir: "str | os.PathLike[str]",
    data_dir: str | None = None,
    *,
    step: int | str | None = None,
    t2t_usr_dir: str | None = None,
) -> "Run":
    """Loads a trained run, to be asked: `load("run").generate("my_problem", "text")`.

    Args:
      run_dir: the `--output_dir` of mm-trainer or mm-average, or one of its
        checkpoints, "run/checkpoints/ckpt-5000".
      data_dir: where to take the vocabularies from; by default the run's own copies.
      step: of the checkpoint; None for the newest, "best" for the best.
      t2t_usr_dir: folder of your own problems, models and sets, if the run has such.

    Raises:
      FileNotFoundError: if there is no run.
      TypeError: if run_dir is no path.
      UnknownNameError: if a problem, model or set of the run is not registered.
      ValueError: if checkpoint or vocabulary do not fit the run.
    """
    if not isinstance(run_dir, str | os.PathLike):
        raise TypeError(
            f"run_dir came as {run_dir!r}; expected the path of a run, as the "
            "--output_dir of mm-trainer. Write it as a text."
        )
    command.load_zoo(t2t_usr_dir)
    command.start_tensorflow()
    from t2t_mm.inference import load_run

    return load_run(run_dir, data_dir=data_dir, step=step)
