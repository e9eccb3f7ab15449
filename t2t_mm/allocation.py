"""What the C library keeps of freed memory, so that the next step finds it there.

glibc gives memory back to the system as soon as enough of it is free at the end of a
heap. A training step frees all it took, and the next one takes it again: page by page,
each a call of the kernel that also fills it with zeros. Over the demo's eight problems
that was up to 3,300 pages and 15 ms of a step of 97 ms.

`command.start_tensorflow` calls this for every command; a program that uses the library
may (docs/python.md). From Python 3.11 on, TensorFlow undoes a part of it: when the
first dataset that asks a Python generator is read, blocks from 128 KiB on become
mappings of their own, fetched anew each time, unless the heap has room for them, which
it has less and less. So `input_pipeline` says it again from then on.
"""

import ctypes
import os

# Of mallopt(3): its number, and the variable of the environment that says the same.
SETTINGS = {
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 256 * 2**20),  # address space; not memory until it is used
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**31 - 1),
}

_is_kept = False


def keep_freed_memory() -> bool:
    """Has glibc keep what is freed, unless the environment says otherwise.

    A process holds its memory for longer, and a few percent more of it at most where
    blocks of many sizes come in turn: 1.82 GiB for 1.80, 7.62 for 7.35 at base size.

    Returns:
      Whether anything was set: not without glibc, nor where one of `SETTINGS` or
      GLIBC_TUNABLES is in the environment.
    """
    global _is_kept
    is_said = any(name in os.environ for name in (*SETTINGS, "GLIBC_TUNABLES"))
    _is_kept = not is_said and _set_all()
    return _is_kept


def keep_on() -> None:
    """Says again what `keep_freed_memory` has set; nothing, where it set nothing.

    To be called by a generator when its first element is asked for.
    """
    if _is_kept:
        _set_all()


def _set_all() -> bool:
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
        library.gnu_get_libc_version  # noqa: B018  (others take other numbers)
    except (OSError, AttributeError, TypeError):  # TypeError: no such library's name
        return False
    return all([mallopt(number, value) for number, value in SETTINGS.values()])
