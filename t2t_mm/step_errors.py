"""What TensorFlow says when a step fails, in words that help."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from t2t_mm.configuration import HParams


class OutOfMemoryError(OSError):
    """A batch does not fit in memory; the message names its shape and the remedy."""


class WorkerLostError(OSError):
    """Another worker of the run is gone; nothing can be summed without it."""


def first_line(error: BaseException) -> str:
    """Gives the first line of what TensorFlow says, without names of operations."""
    text = getattr(error, "message", str(error)).strip() or type(error).__name__
    line = re.sub(r"{{.*?}} | \[Op:\w+\]( name:)?", "", text.splitlines()[0])
    return line.strip().rstrip(".") + "."


@contextlib.contextmanager
def memory_explained(
    problem_name: str, hparams: HParams, batch: Mapping[str, Any] | None = None
) -> Iterator[None]:
    """Says what to do when memory runs out.

    Args:
      problem_name: whose batch is worked on.
      hparams: of the run.
      batch: what is trained on; None in an evaluation.

    Raises:
      OutOfMemoryError: if memory ran out.
    """
    try:
        yield
    except Exception as error:
        lack = _lack_of_memory(error)
        if lack is None:
            raise
        rows, shape = 2, " in an evaluation"
        if batch is not None:
            rows = int(batch["inputs"].shape[0])
            sizes = ", ".join(
                f"{name} {list(batch[name].shape)}" for name in ("inputs", "targets")
            )
            shape = f" on a batch of {rows} examples ({sizes})"
        raise OutOfMemoryError(
            f"Memory ran out for problem '{problem_name}'{shape}: {first_line(lack)} "
            f"Expected every batch to fit. {_remedy(rows, hparams, batch)} With "
            "another --output_dir and --warm_start_from the weights learned so far are "
            "kept."
        ) from error


@contextlib.contextmanager
def size_explained(hparams: HParams) -> Iterator[None]:
    """Says what to do when memory runs out before there is any batch.

    Raises:
      OutOfMemoryError: if the network or its optimizer did not fit.
    """
    try:
        yield
    except Exception as error:
        lack = _lack_of_memory(error)
        if lack is None:
            raise
        raise OutOfMemoryError(
            f"Memory ran out while the network was built: {first_line(lack)} "
            "Expected room for each weight and what the optimizer keeps of it. Lower "
            f"hidden_size ({hparams.hidden_size}) or the number of layers or experts, "
            "or choose a smaller --hparams_set."
        ) from error


@contextlib.contextmanager
def workers_explained() -> Iterator[None]:
    """Says what to do when another worker of a run is lost.

    Raises:
      WorkerLostError: if it is.
    """
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
    ) as error:
        if not _is_exchange(error):
            raise
        raise WorkerLostError(
            "Another worker of this run is gone or cannot be reached: "
            f"{_reason(error)} Expected all workers to stay until the end. Look at its "
            "own log, then start all workers again with the same commands: they go on "
            "from the last checkpoint."
        ) from error


def _lack_of_memory(error: BaseException | None) -> BaseException | None:
    """Gives the error behind an error that says that memory ran out.

    Without memory, TensorFlow may fail once more while it words the first failure.
    """
    while error is not None:
        if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
            return error
        error = error.__context__
    return None


def _remedy(rows: int, hparams: HParams, batch: Mapping[str, Any] | None) -> str:
    if batch is None:
        return (
            f"Lower batch_tokens ({hparams.batch_tokens}), batch_examples "
            f"({hparams.batch_examples}) or batch_seconds ({hparams.batch_seconds:g}), "
            "whichever counts for this problem."
        )
    is_image = len(batch["inputs"].shape) == 4
    is_audio = not is_image and tf.as_dtype(batch["inputs"].dtype).is_floating
    if rows > 1:
        name = "batch_seconds" if is_audio else "batch_tokens"
        name = "batch_examples" if is_image else name
        size = getattr(hparams, name)
        half = f"{size / 2:g}" if is_audio else f"{max(1, size // 2)}"
        return f"Lower {name} ({size:g}): --hparams={name}={half}."
    if is_image:
        return (
            f"One picture is too large: lower hidden_size ({hparams.hidden_size}) or "
            f"image_filters ({hparams.image_filters}), or make its data smaller."
        )
    name = "max_seconds" if is_audio else "max_length"
    return (
        f"One example is too long: lower {name} ({getattr(hparams, name):g}), which "
        "leaves long ones out."
    )


def _is_exchange(error: tf.errors.OpError) -> bool:
    return "ollective" in error.message or "heartbeat" in error.message


def _reason(error: tf.errors.OpError) -> str:
    """Gives the line that names the lost task."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    for line in lines:
        if "/job:" in line or "unhealthy" in line or "aborted" in line:
            return line[:300].rstrip(".") + "."
    return lines[0][:300].rstrip(".") + "." if lines else "no reason came."
