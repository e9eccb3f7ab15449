"""In which numbers a run computes: float32, or bfloat16 where that is safe."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

NAMES = ("float32", "mixed_bfloat16")


@contextlib.contextmanager
def computing_in(precision: str = "float32", *, tf32: bool = True) -> Iterator[None]:
    """Sets how what is built within computes; afterwards all is as it was.

    Args:
      precision: "mixed_bfloat16" multiplies matrices in bfloat16; variables, losses,
        softmax, norms and gates stay in float32. It pays on processors with AMX or
        avx512_bf16, on recent GPUs, on TPU.
      tf32: lets NVIDIA GPUs multiply float32 matrices with 10 bits of mantissa, which
        is several times faster; false for all 23.

    Raises:
      ValueError: on another precision.
    """
    if precision == "mixed_float16":
        raise ValueError(
            "--precision=mixed_float16 came; expected float32 or mixed_bfloat16. "
            "Gradients in float16 underflow without loss scaling: use mixed_bfloat16, "
            "which has float32's range."
        )
    if precision not in NAMES:
        raise ValueError(
            f"--precision={precision} came; expected one of {', '.join(NAMES)}. "
            "Leave it out for float32."
        )
    policy = keras.config.dtype_policy()
    had_tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    keras.config.set_dtype_policy(precision)
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        tf.config.experimental.enable_tensor_float_32_execution(had_tf32)
