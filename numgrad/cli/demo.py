"""``demo``: two models on real data, optimised with exact derivatives and beside them with SciPy and NumPy alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from numgrad.cli import models
from numgrad.cli.terminal import console, table
from numgrad.optimize.objective import Problem, problem
from numgrad.optimize.solvers import minimize
from numgrad.testing import GradientMismatch, check_gradients

__all__ = ["demo"]

Floats = NDArray[np.float64]
Check = tuple[str, bool, str]  # what is claimed, whether it holds, the figures

_WINES = 80
_TOLERANCE = 1e-7  # on the gradient's norm, for the trust-region methods
_AGREEMENT = 1e-9  # of numgrad with the gradient and product written by hand, relative
_SAME_VALUE = 1e-6  # between solvers that find the same minimum
_STATIONARY = {"trust-ncg": 1e-6, "trust-exact": 1e-4, "L-BFGS-B": 1e-1}  # gradient norms that count as a minimum
_SLOW_STEPS = 200


@dataclass
class Run:
    """One solver on one model: what it found, at what cost, and the way there."""

    name: str
    solver: str
    value: float
    gradient_norm: float
    x: Floats
    iterations: int
    evaluations: str
    compile_seconds: float
    seconds: float
    path: list[tuple[float, float]] = field(default_factory=list)  # seconds, value

    def row(self) -> list[str]:
        """The cells of its line in the table."""
        compiled = f"{self.compile_seconds:.2f} s" if self.compile_seconds else "-"
        return [self.name, self.solver, f"{self.value:.8f}", f"{self.gradient_norm:.1e}", str(self.iterations),
                self.evaluations, compiled, f"{1e3 * self.seconds:.1f} ms"]


COLUMNS = ("derivatives", "solver", "value", "|gradient|", "iterations", "f / g / H evaluations", "compile", "run")


def _run(name: str, solver: str, judge: Problem, solve: Callable[[Callable[..., None]], Any],
         compile_seconds: float = 0.0) -> Run:
    """Time one solver; `judge` gives exact values and gradients of the points that it visited."""
    visited: list[tuple[float, Floats]] = [(0.0, judge.x0)]
    begun = time.perf_counter()

    def callback(x: Any, *state: Any) -> None:
        visited.append((time.perf_counter() - begun, judge.flatten(x) if isinstance(x, dict) else np.array(x)))

    result = solve(callback)
    seconds = time.perf_counter() - begun
    x = result.get("x_flat", result.x)
    path = [(moment, judge.value(point)) for moment, point in visited]
    counts = [result.get(key) for key in ("nfev", "njev", "nhev")]
    evaluations = " / ".join("-" if c is None else str(int(np.max(c))) for c in counts)
    return Run(name, solver, judge.value(x), float(np.linalg.norm(judge.jac(x))), x, int(result.nit), evaluations,
               compile_seconds, seconds, path)


def _first_calls(p: Problem, *names: str) -> float:
    """Seconds that the first calls take beyond the second ones: tracing, compiling and loading."""
    total = 0.0
    for name in names:
        arguments = (p.x0, p.x0) if name == "hessp" else (p.x0,)
        seconds = []
        for q in (p, p.with_args(*p._args)):  # the second forgets the remembered point, not the programs
            begun = time.perf_counter()
            getattr(q, name)(*arguments)
            seconds.append(time.perf_counter() - begun)
        total += max(0.0, seconds[0] - seconds[1])
    return total


def _difference_product(gradient: Callable[[Floats], Floats]) -> Callable[[Floats, Floats], Floats]:
    """Hessian-vector products by a forward difference of gradients."""
    def product(x: Floats, v: Floats) -> Floats:
        step = 1e-4 / max(float(np.linalg.norm(v)), 1e-30)
        return (gradient(x + step * v) - gradient(x)) / step

    return product


def _classify(tell: Callable[[str], None]) -> tuple[list[Run], Problem, models.HandWritten]:
    """Logistic regression by five ways."""
    from scipy import optimize

    X, y = models.cancer()
    hand = models.HandWritten(X, y)
    tell("logistic regression: compile")
    p = problem(models.logistic, np.zeros(X.shape[1]), X, y)
    compiled = _first_calls(p, "fun_and_jac", "hessp")
    start = p.x0

    def differences(w: Floats) -> Floats:
        return optimize.approx_fprime(w, hand.fun)  # type: ignore[no-any-return]

    def scipy(method: str, **more: Any) -> Callable[[Callable[..., None]], Any]:
        return lambda callback: optimize.minimize(hand.fun, start, method=method, callback=callback, **more)

    def exact(callback: Callable[..., None]) -> Any:
        return minimize(p, method="trust-ncg", tol=_TOLERANCE, callback=callback)

    plans = [
        ("numgrad, exact", "trust-ncg", exact),
        ("NumPy, by hand", "trust-ncg", scipy("trust-ncg", jac=hand.jac, hessp=hand.hessp, tol=_TOLERANCE)),
        ("SciPy, differences", "BFGS", scipy("BFGS")),
        ("SciPy, differences", "trust-constr", scipy("trust-constr", jac="2-point")),
        ("SciPy, differences", "trust-ncg", scipy("trust-ncg", jac=differences, hessp=_difference_product(differences),
                                                  tol=1e-5, options={"maxiter": _SLOW_STEPS})),
    ]
    runs = []
    for name, solver, solve in plans:
        tell(f"logistic regression: {name}, {solver}")
        runs.append(_run(name, solver, p, solve, compiled if name.startswith("numgrad") else 0.0))
    return runs, p, hand


def _fit_process(tell: Callable[[str], None]) -> tuple[list[Run], Problem]:
    """The Gaussian process by three ways."""
    from scipy import optimize

    X, y = models.wines(_WINES)
    tell("Gaussian process: compile")
    p = problem(models.gaussian_process, models.gaussian_process_start(X), X, y)
    compiled = {"L-BFGS-B": _first_calls(p, "fun_and_jac")}
    compiled["trust-exact"] = _first_calls(p, "hess")

    def exact(solver: str) -> Callable[[Callable[..., None]], Any]:
        return lambda callback: minimize(p, method=solver, callback=callback)

    def differences(callback: Callable[..., None]) -> Any:
        return optimize.minimize(models.numpy_gaussian_process, p.x0, (X, y), method="L-BFGS-B", callback=callback)

    runs = []
    for solver in ("L-BFGS-B", "trust-exact"):
        tell(f"Gaussian process: numgrad, {solver}")
        runs.append(_run("numgrad, exact", solver, p, exact(solver), compiled[solver]))
    tell("Gaussian process: SciPy, differences, L-BFGS-B")
    runs.append(_run("SciPy, differences", "L-BFGS-B", p, differences))
    return runs, p


def _relative(a: Any, b: Any) -> float:
    return float(np.linalg.norm(np.asarray(a) - b) / np.linalg.norm(b))


def _checks(logistic: list[Run], p: Problem, hand: models.HandWritten, process: list[Run],
            q: Problem) -> list[Check]:
    """What must hold of the answers."""
    found = []
    w, v = logistic[0].x, np.linspace(-1.0, 1.0, p.x0.size)
    pairs = {"gradient": (p.jac(0.5 * w), hand.jac(0.5 * w)),
             "Hessian product": (p.hessp(w, v), hand.hessp(w, v))}
    for name, (ours, theirs) in pairs.items():
        error = _relative(ours, theirs)
        claim = f"{name} agrees with the one written by hand"
        found.append((claim, error <= _AGREEMENT, f"relative error {error:.1e}"))
    above = [run.value - logistic[0].value for run in logistic]
    found.append(("all solvers find the same loss, none a lower one", min(above) >= -_SAME_VALUE / 1e3
                  and max(above) <= _SAME_VALUE, f"values within {max(above):.1e}"))
    for run in (logistic[0], process[0], process[1]):
        limit = _STATIONARY[run.solver]
        found.append((f"{run.solver} ends at a stationary point", run.gradient_norm <= limit,
                      f"gradient norm {run.gradient_norm:.1e}, limit {limit:.0e}"))
    least = float(np.linalg.eigvalsh(q.hess(process[1].x))[0])
    found.append(("the Hessian at the end of trust-exact is positive", least >= -1e-6, f"least eigenvalue {least:.2e}"))
    return found


def _derivative_checks(tell: Callable[[str], None]) -> list[Check]:
    """`check_gradients` on both models, first and second order in all modes."""
    X, y = models.cancer()
    small, target = models.wines(20)
    start = models.gaussian_process_start(small)
    jobs = [("logistic regression", models.logistic, (np.linspace(-0.5, 0.5, X.shape[1]), X, y)),
            ("Gaussian process", models.gaussian_process, (start, small, target))]
    found = []
    for name, f, (parameters, *data) in jobs:
        tell(f"check the derivatives of the {name}")
        try:
            report = check_gradients(lambda x, f=f, data=data: f(x, *data), (parameters,), order=2)
        except GradientMismatch as mismatch:
            found.append((f"derivatives of the {name}", False, str(mismatch.report.worst)))
        else:
            worst, count = report.worst, len(report.comparisons)
            found.append((f"derivatives of the {name}", True, f"{count} comparisons, worst: {worst.what}, error "
                          f"{worst.error:.1e}, tolerance {worst.tolerance:.1e}"))
    return found


def _plot(path: Path, panels: list[tuple[str, list[Run]]]) -> bool:
    """Draw value above the best against time; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (title, runs) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        best = min(value for run in runs for _, value in run.path)
        for run in runs:
            seconds, values = np.array(run.path).T
            axes.plot(1e3 * np.maximum(seconds, 1e-5), np.maximum(values - best, 1e-12), marker=".",
                      label=f"{run.name}, {run.solver}")
        axes.set(title=title, xlabel="milliseconds, compilation apart", ylabel="value above the best", xscale="log",
                 yscale="log")
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    return True


def demo(plot: Path | None) -> int:
    """Run the demonstration; the exit status is 1 if a check fails."""
    out = console()
    begun = time.perf_counter()
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=out, transient=True,
                  disable=not out.is_terminal) as progress:
        task = progress.add_task("start", total=None)

        def tell(text: str) -> None:
            progress.update(task, description=text)

        logistic, p, hand = _classify(tell)
        process, q = _fit_process(tell)
        checks = _checks(logistic, p, hand, process, q) + _derivative_checks(tell)
    X, _ = models.cancer()
    titles = [f"Logistic regression, breast cancer data ({X.shape[0]} x {X.shape[1]})",
              f"Gaussian process, marginal likelihood over {q.x0.size} hyper-parameters ({_WINES} wines)"]
    table(out, titles[0], COLUMNS, [run.row() for run in logistic], left=2)
    table(out, titles[1], COLUMNS, [run.row() for run in process], left=2)
    judged = [(name, "ok" if ok else "FAILED", text) for name, ok, text in checks]
    table(out, "Checks", ("check", "", "figures"), judged, left=3)
    if plot is not None:
        drawn = _plot(plot, [("Logistic regression", logistic), ("Gaussian process", process)])
        text = f"convergence plot: {plot}" if drawn else "no convergence plot: matplotlib is not installed"
        out.print(text, soft_wrap=True)
    failed = sum(not ok for _, ok, _ in checks)
    out.print(f"{len(checks) - failed} of {len(checks)} checks passed in {time.perf_counter() - begun:.1f} s")
    return 1 if failed else 0
