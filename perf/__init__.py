"""Measurements of numgrad beside hand-written code and beside other libraries; run as ``python -m perf``."""
