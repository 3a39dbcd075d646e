"""The version of numgrad, read by the package, the disk cache and setup.cfg."""

__version__ = "0.1.0"
