"""Small real data sets for the demonstration, the documentation and the tests; README.md names authors and licence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_breast_cancer", "load_lynx_hare", "load_wine"]

Floats = NDArray[np.float64]


def load_breast_cancer() -> tuple[Floats, Floats, tuple[str, ...]]:
    """Load the Wisconsin diagnostic breast cancer data: 30 measurements of cell nuclei and a diagnosis of 569 patients.

    Returns
    -------
    X : float64 array, shape (569, 30)
        Ten properties of the nuclei, each as mean, standard error and mean of the three largest values. Not scaled:
        columns differ by six orders of magnitude.
    y : float64 array, shape (569,)
        1 where the mass is malignant (212 patients), 0 where it is benign (357).
    feature_names : tuple of 30 str
        The names of the columns of ``X``.

    Raises
    ------
    FileNotFoundError
        If the installation lacks the data file.

    Notes
    -----
    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street (1993), UCI Machine Learning Repository,
    doi:10.24432/C5DW2B, CC BY 4.0.

    Examples
    --------
    >>> from numgrad.data import load_breast_cancer
    >>> X, y, names = load_breast_cancer()
    >>> X.shape, int(y.sum()), names[0]
    ((569, 30), 212, 'mean_radius')
    """
    names, table = _read("breast_cancer.csv")
    return np.ascontiguousarray(table[:, 1:]), table[:, 0].copy(), names[1:]


def load_lynx_hare() -> tuple[Floats, Floats, Floats]:
    """Load the pelts of hares and lynxes that the Hudson's Bay Company bought in Canada from 1900 to 1920.

    Returns
    -------
    year : float64 array, shape (21,)
        1900 to 1920.
    hare, lynx : float64 arrays, shape (21,)
        Thousands of pelts, of the prey and of the predator.

    Raises
    ------
    FileNotFoundError
        If the installation lacks the data file.

    Notes
    -----
    The figures are public facts, printed in E. G. Leigh (1968), The ecological role of Volterra's equations, Some
    Mathematical Problems in Biology, American Mathematical Society, and in P. Howard (2009), Modeling Basics.

    Examples
    --------
    >>> from numgrad.data import load_lynx_hare
    >>> year, hare, lynx = load_lynx_hare()
    >>> int(year[hare.argmax()]), int(year[lynx.argmax()])
    (1903, 1904)
    """
    _, table = _read("lynx_hare.csv")
    return table[:, 0].copy(), table[:, 2].copy(), table[:, 1].copy()


def load_wine() -> tuple[Floats, Floats, tuple[str, ...]]:
    """Load the wine data as a regression problem: the alcohol content of 178 wines and twelve other constituents.

    Returns
    -------
    X : float64 array, shape (178, 12)
        Constituents of each wine, not scaled.
    y : float64 array, shape (178,)
        Alcohol in per cent by volume, from 11.03 to 14.83.
    feature_names : tuple of 12 str
        The names of the columns of ``X``.

    Raises
    ------
    FileNotFoundError
        If the installation lacks the data file.

    Notes
    -----
    The cultivar, which the data set was made to predict, is left out. Source: S. Aeberhard, M. Forina (1992),
    UCI Machine Learning Repository, doi:10.24432/C5PC7J, CC BY 4.0.

    Examples
    --------
    >>> from numgrad.data import load_wine
    >>> X, y, names = load_wine()
    >>> X.shape, float(y.min()), float(y.max()), names[-1]
    ((178, 12), 11.03, 14.83, 'proline')
    """
    names, table = _read("wine.csv")
    return np.ascontiguousarray(table[:, 1:-1]), table[:, 0].copy(), names[1:-1]


def _read(filename: str) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return the column names and the float64 table of a comma-separated file in this package."""
    from importlib import resources  # a fiftieth of a second that only those who load data pay

    with resources.files(__name__).joinpath(filename).open(encoding="ascii") as lines:
        names = tuple(lines.readline().strip().split(","))
        return names, np.loadtxt(lines, delimiter=",", dtype=np.float64)
