"""The flags that say how many threads TensorFlow computes with, as Tensor2Tensor's did.

Commands that run a network define them; `command.start_tensorflow` follows them. Not
kept with a run: it may go on with other numbers of threads.
"""

import contextlib
import os

from absl import flags

INTRA, INTER = "intra_op_parallelism_threads", "inter_op_parallelism_threads"
# TensorFlow starts them all, used or not: 10,000 of both kinds took 13 CPU-seconds.
MOST = 1024
# With so few processors, the operations that run side by side keep them busy; to cut
# each into parts as well costs up to a sixth of a step (docs/training.md, Threads).
FEW_PROCESSORS = 2


def define_thread_flags(values: flags.FlagValues) -> None:
    """Defines `--intra_op_parallelism_threads` and `--inter_op_parallelism_threads`."""
    for name, text in (
        (
            INTRA,
            "threads that one operation is cut into parts for; 0: 1 on a CPU of "
            f"{FEW_PROCESSORS} processors, else as many as there are",
        ),
        (INTER, "operations that run at once; 0: as many as there are processors"),
    ):
        flags.DEFINE_integer(
            name,
            0,
            text,
            lower_bound=0,
            upper_bound=MOST,
            flag_values=values,
        )


def use_threads(intra_op: int, inter_op: int) -> None:
    """Sets the threads of TensorFlow, which has computed nothing yet.

    Args:
      intra_op: threads that share one operation; 0 leaves what is set, or said by
        TF_NUM_INTRAOP_THREADS in the environment, or else leaves operations whole
        where there are few processors and nothing but a CPU.
      inter_op: operations at once; 0 likewise, TF_NUM_INTEROP_THREADS.

    Raises:
      ValueError: if TensorFlow has started its threads, and with other numbers.
    """
    from tensorflow import config

    if not intra_op and _has_few_processors(config):
        # Where TensorFlow has started its threads, nobody asked for others.
        with contextlib.suppress(RuntimeError):
            config.threading.set_intra_op_parallelism_threads(1)
    for name, number, use in (
        (INTRA, intra_op, config.threading.set_intra_op_parallelism_threads),
        (INTER, inter_op, config.threading.set_inter_op_parallelism_threads),
    ):
        try:
            if number:
                use(number)
        except RuntimeError as error:
            raise ValueError(
                f"--{name}={number} came, but TensorFlow had started its threads; "
                "they were expected to start later. Let no file of --t2t_usr_dir, no "
                "plug-in compute with TensorFlow while it is imported; from Python, "
                f"call tf.config.threading.set_{name}({number}) before that."
            ) from error


def _has_few_processors(config) -> bool:
    """Tells whether operations are best left whole, and nobody said otherwise."""
    if config.threading.get_intra_op_parallelism_threads():
        return False
    if os.environ.get("TF_NUM_INTRAOP_THREADS"):
        return False
    if any(config.list_physical_devices(kind) for kind in ("GPU", "TPU")):
        return False
    return num_processors() <= FEW_PROCESSORS


def num_processors() -> int:
    """Gives how many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_thread_flags(values: flags.FlagValues) -> None:
    """Sets the threads that the flags ask for, where a command has these flags."""
    if INTRA in values:
        use_threads(values[INTRA].value or 0, values[INTER].value or 0)
