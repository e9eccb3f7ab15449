"""What the C library keeps of freed memory, so that the next step finds it there.

glibc gives memory back to the system as soon as enough of it is free at the end of a
heap. A training step frees all it took, and the next one takes it again: page by page,
each a call of the kernel that also fills it with zeros. Over the demo's eight problems
that was up to 3,300 pages and 15 ms of a step of 97 ms.

`command.start_tensorflow` calls this for every command. A process that uses the
library keeps its own settings (docs/python.md tells how to do the same).
"""

import ctypes
import os

# Of mallopt(3): its number, and the variable of the environment that says the same.
SETTINGS = {
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 256 * 2**20),  # address space; not memory until it is used
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**31 - 1),
}


def keep_freed_memory() -> bool:
    """Has glibc keep what is freed, unless the environment says otherwise.

    A process holds its memory for longer, and a few percent more of it at most where
    blocks of many sizes come in turn: 1.82 GiB for 1.80, 7.62 for 7.35 at base size.

    Returns:
      Whether anything was set: not without glibc, nor where one of `SETTINGS` or
      GLIBC_TUNABLES is in the environment.
    """
    if any(name in os.environ for name in (*SETTINGS, "GLIBC_TUNABLES")):
        return False
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
        library.gnu_get_libc_version  # noqa: B018  (others take other numbers)
    except (OSError, AttributeError, TypeError):  # TypeError: no such library's name
        return False
    return all([mallopt(number, value) for number, value in SETTINGS.values()])
