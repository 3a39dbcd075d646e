"""Special functions, under SciPy's and the Array API's names."""

from numgrad.ops.exponential import expit, log_sigmoid, logaddexp, softplus
from numgrad.ops.special import digamma, erf, erfc, erfinv, gammaln, lgamma, polygamma, psi, xlog1py, xlogy
from numgrad.ops.statistics import log_softmax, logsumexp, softmax

log_expit = log_sigmoid

__all__ = [
    "digamma", "erf", "erfc", "erfinv", "expit", "gammaln", "lgamma", "log_expit", "log_sigmoid", "log_softmax",
    "logaddexp", "logsumexp", "polygamma", "psi", "softmax", "softplus", "xlog1py", "xlogy",
]
