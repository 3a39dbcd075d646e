"""The errors that the kernel package raises by itself."""


class KernelBuildError(RuntimeError):
    """A kernel could not be compiled, linked or found; the text says which one, why, and what to change."""
