"""The equations of Lotka and Volterra fitted to an old record of pelts, with gradients and products through odeint."""

from __future__ import annotations

import numpy as np

import numgrad as ng
from numgrad.data import load_lynx_hare


def slope(populations: np.ndarray, t: float, rates: np.ndarray) -> np.ndarray:
    """Hares multiply and are eaten; lynxes multiply by eating and die."""
    hares, lynxes = populations
    eaten = hares * lynxes
    return np.stack([rates[0] * hares - rates[1] * eaten, -rates[2] * lynxes + rates[3] * eaten])


def negative_log_posterior(log_p: dict[str, np.ndarray], t: np.ndarray, pelts: np.ndarray) -> np.ndarray:
    """Lognormal errors around the solution, and weak priors: the model of Carpenter (2018), up to a constant."""
    rates, start, noise = np.exp(log_p["rates"]), np.exp(log_p["start"]), np.exp(log_p["noise"])
    solution = ng.integrate.odeint(slope, start, t, rates)
    residuals = (np.log(pelts) - np.log(solution)) / noise
    likelihood = np.sum(0.5 * residuals * residuals + log_p["noise"])
    growth, hunger = (rates[::2] - 1.0) / 0.5, (rates[1::2] - 0.05) / 0.05
    priors = np.sum(growth * growth) + np.sum(hunger * hunger) + np.sum((log_p["start"] - np.log(10.0)) ** 2)
    return likelihood + 0.5 * (priors + np.sum((log_p["noise"] + 1.0) ** 2))


def main() -> None:
    year, hare, lynx = load_lynx_hare()
    data = year - year[0], np.stack([hare, lynx], axis=1)
    # Near their equilibrium (gamma / delta, alpha / beta) populations turn with the frequency sqrt(alpha gamma): the
    # cycle of about ten years and the mean numbers of pelts give a first guess.
    frequency, (hares, lynxes) = 2.0 * np.pi / 10.0, data[1].mean(axis=0)
    rates = np.array([frequency, frequency / lynxes, frequency, frequency / hares])
    guess = {"rates": np.log(rates), "start": np.log(data[1][0]), "noise": np.log([0.5, 0.5])}
    result = ng.optimize.minimize(negative_log_posterior, guess, args=data, method="trust-ncg")
    print(f"{result.message} {result.nit} iterations, {result.nfev} values, {result.nhev} products")
    assert result.success

    # Laplace's approximation: near its mode the posterior is normal, with the inverse Hessian as its covariance.
    problem = ng.optimize.problem(negative_log_posterior, guess, *data)
    deviation = np.sqrt(np.diag(np.linalg.inv(problem.hess(result.x_flat))))
    names = ("alpha", "beta", "gamma", "delta", "hares in 1900", "lynxes in 1900", "noise of hares", "noise of lynxes")
    found = np.exp(result.x_flat)
    for name, value, relative in zip(names, found, deviation, strict=True):
        print(f"  {name:<16}{value:8.4f} +- {value * relative:.4f}")
    published = np.array([0.55, 0.028, 0.80, 0.024, 33.9, 5.9, 0.25, 0.25])  # Carpenter (2018), rounded
    assert np.all(np.abs(found - published) < 2.0 * found * deviation)

    late = np.array([0.0, 21.0, 22.0, 23.0])
    ahead = ng.integrate.odeint(slope, np.exp(result.x["start"]), late, np.exp(result.x["rates"]))
    for t, (hares, lynxes) in zip(late[1:], ahead[1:], strict=True):
        print(f"  {year[0] + t:.0f}: {hares:5.1f} thousand pelts of hares, {lynxes:5.1f} thousand of lynxes")


if __name__ == "__main__":
    main()
