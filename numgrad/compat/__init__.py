"""Signatures of other libraries, for programs that are ported."""

from numgrad.compat import v1

__all__ = ["v1"]
