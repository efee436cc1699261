"""How a `for` loop was left: by `break`/`return`, or by an exception.

An iterator is not told why its loop ended, and an exception may be caught between the loop and the
`async with` around it, where no `__aexit__` sees it. But CPython lets go of the iterator at the
moment the loop is left, while the loop's frame stands at the instruction that did it: POP_TOP for
`break` and `return`, which cannot raise, or whatever raised. Where that cannot be told (another
Python, the iterator kept in a variable) the answer is "by an exception": the message then comes
again, which a consumer must bear anyway.
"""

import opcode
import sys
from types import FrameType

_LEAVING = frozenset(opcode.opmap[name] for name in ("POP_TOP",) if name in opcode.opmap)


def left_normally(frame: FrameType | None) -> bool:
    """True when `frame`, which just let go of an iterator, did so by `break` or `return`."""
    if frame is None or sys.implementation.name != "cpython" or frame.f_lasti < 0:
        return False
    return frame.f_code.co_code[frame.f_lasti] in _LEAVING
