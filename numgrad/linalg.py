"""Linear algebra under the names of the Array API, NumPy and SciPy: re-exports only."""

from numgrad.ops.axes import matrix_transpose
from numgrad.ops.cholesky import cholesky
from numgrad.ops.linalg import cho_solve, triangular_solve
from numgrad.ops.lu import SlogdetResult, det, inv, matrix_power, slogdet, solve
from numgrad.ops.norms import matrix_norm, norm, vector_norm
from numgrad.ops.pinv import cond, diagonal, pinv, trace
from numgrad.ops.products import cross, matmul, multi_dot, outer, tensordot, vecdot
from numgrad.ops.qr import QRResult, qr
from numgrad.ops.spectral import EighResult, SVDResult, eigh, eigvalsh, svd, svdvals

__all__ = [
    "EighResult",
    "QRResult",
    "SVDResult",
    "SlogdetResult",
    "cho_solve",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "triangular_solve",
    "vecdot",
    "vector_norm",
]
