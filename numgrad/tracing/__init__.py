"""From a Python function to a graph: nests of arguments, traces and their cache, NumPy's protocols."""
