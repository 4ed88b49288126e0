"""The name that somebody may have meant, for whoever refuses one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(given: str, known: Iterable[str], otherwise: str = "known here:") -> str:
    """`did you mean 'lr'?`, or all that is known behind `otherwise` where nothing is near."""
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"{otherwise} {', '.join(names)}"
