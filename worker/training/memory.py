"""What the C library does with memory that tensors have freed."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed() -> bool:
    """Have glibc keep freed memory for the next tensors of this process; False where the C library is another one.

    Else it hands activations of some megabytes back to the system, which clears them page by page when the next step
    asks for them: an eighth of a step of the `fast` network on the CPU, in some runs half a step of ResNet-20.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(kept)
