"""Factorisations and solves of stacks of matrices, by LAPACK and BLAS."""

from __future__ import annotations

from numgrad_kernels import blas

__all__ = ["blas"]
