"""The compiler floor: from a graph to a program of native kernels."""
