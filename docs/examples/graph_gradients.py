"""A graph built by hand: look at it, differentiate it twice, evaluate it with NumPy and compile it."""

from __future__ import annotations

import numpy as np

import numgrad as ng


def main() -> None:
    with ng.Graph().as_default() as graph:
        x = ng.placeholder("float64", ("n",), name="x")
        v = ng.placeholder("float64", ("n",), name="v")
        with ng.name_scope("energy"):
            energy = ng.sum(ng.log(ng.cosh(x))) + 0.5 * ng.square(ng.sum(x))
        (force,) = ng.gradients(energy, [x])
        (product,) = ng.hessian_vector_product(energy, [x], [v])
        (hessian,) = ng.hessians(energy, [x])
    print(ng.show(graph))

    point, direction = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.0, -1.0])
    interpreted = ng.run([energy, force, product, hessian], {x: point, v: direction})
    program = ng.compile([x, v], [energy, force, product, hessian])
    compiled = program(point, direction)
    for one, other in zip(interpreted, compiled, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)

    exact = np.diag(1.0 / np.cosh(point) ** 2) + 1.0
    np.testing.assert_allclose(compiled[3], exact, rtol=1e-12)
    np.testing.assert_allclose(compiled[2], exact @ direction, rtol=1e-12)
    longer = program(np.linspace(-1.0, 1.0, 1000), np.ones(1000))
    print(f"energy {float(compiled[0]):.6f}; the same program on 1000 numbers: {float(longer[0]):.6f}")


if __name__ == "__main__":
    main()
