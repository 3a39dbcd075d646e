"""Print the kernel that sums many stored arrays in one pass, block by block."""

from __future__ import annotations

from numgrad.compiler.printer_numba import Argument, Printed, short_name
from numgrad.compiler.rewrite import Node
from numgrad.types import size_product

__all__ = ["SUM_BLOCK", "print_sum"]

SUM_BLOCK = 2048  # elements of the sum that stay in the first cache while the terms pass by
SIDE_BY_SIDE = 8  # terms read together; the processor's prefetchers follow some 16 arrays


def print_sum(node: Node) -> Printed:
    """The kernel of an n-ary sum: memory is read once for each term and written once, whatever their number.

    A fused loop over 200 arrays would read 200 places in turn, too many for the prefetchers: it is four times slower
    than this. Terms are added from the first to the last, and kernels are shared by all sums of as many terms modulo
    `SIDE_BY_SIDE`.
    """
    total = node.outputs[0]
    cast = f"as_{short_name(total.dtype)}"
    count = len(node.inputs)
    first = (count - 1) % SIDE_BY_SIDE + 1
    arguments = [Argument("dim", dim=(count - first) // SIDE_BY_SIDE), Argument("dim", dim=size_product(total.shape)),
                 *(Argument("buffer", v) for v in (total, *node.inputs))]
    before = len(arguments) - count
    terms = [f"p{k}[i]" for k in range(first)]
    more = [f"r{k}[i]" for k in range(SIDE_BY_SIDE)]
    lines = ["groups = args[0]", "n = args[1]", f"q = {cast}(args[2])",
             *(f"p{k} = {cast}(args[{before + k}])" for k in range(first)),
             "for block in range(lo, hi):",
             f"    low = block * {SUM_BLOCK}", f"    high = min(n, low + {SUM_BLOCK})",
             "    for i in range(low, high):", f"        q[i] = {' + '.join(terms)}",
             "    for g in range(0, groups):", f"        at = g * {SIDE_BY_SIDE} + {before + first}",
             *(f"        r{k} = {cast}(args[at + {k}])" for k in range(SIDE_BY_SIDE)),
             "        for j in range(low, high):",
             f"            q[j] = q[j] + {' + '.join(more).replace('[i]', '[j]')}"]
    return Printed("def kernel(args, lo, hi):\n" + "\n".join("    " + line for line in lines) + "\n", tuple(arguments))

