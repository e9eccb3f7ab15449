"""A trace of some steps for TensorBoard's profiler."""

import tensorflow as tf

FIRST, LAST = 11, 15  # steps after the start: graphs are compiled by then


class Profile:
    """Records steps 11 to 15 of a run that was just started, while it is entered.

    Args:
      run_dir: gets the trace, under plugins/profile.
      num_steps: how many steps there are to train.

    Raises:
      ValueError: if the run ends before the trace would.
    """

    def __init__(self, run_dir: str, *, num_steps: int):
        if num_steps < LAST:
            raise ValueError(
                f"--profile came with {num_steps} steps to train; expected {LAST} or "
                f"more, since steps {FIRST} to {LAST} are recorded. Raise "
                "--train_steps."
            )
        self._run_dir = run_dir
        self._done = 0
        self._is_running = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def after_step(self) -> None:
        """Starts or ends the recording where it is time to."""
        self._done += 1
        if self._done == FIRST - 1:
            tf.profiler.experimental.start(self._run_dir)
            self._is_running = True
        elif self._done == LAST:
            self.stop()

    def stop(self) -> None:
        """Ends the recording, if there is one, and writes it."""
        if self._is_running:
            self._is_running = False
            tf.profiler.experimental.stop()
