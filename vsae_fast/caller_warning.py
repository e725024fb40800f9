"""Warnings that point at the caller's own line, however deep in the library they arise."""

from __future__ import annotations

import sys
import warnings

OURS = ("vsae_fast", "sklearn")  # scikit-learn wraps transform


def warn_caller(message: str) -> None:
    """Issue a UserWarning for the first frame outside this library.

    ``skip_file_prefixes`` of :func:`warnings.warn` does this from Python 3.12 on.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in OURS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
