"""What processor the kernels are compiled for."""

from __future__ import annotations

from functools import cache


@cache
def cpu_name() -> str:
    """LLVM's name of this processor, for example "znver4"."""
    from llvmlite import binding

    return str(binding.get_host_cpu_name())


@cache
def cpu_features() -> tuple[str, ...]:
    """Sorted names of the instruction set extensions that this processor and the operating system support."""
    from llvmlite import binding

    return tuple(sorted(name for name, present in _feature_map(binding).items() if present))


@cache
def feature_string() -> str:
    """All features, present ("+avx2") and absent ("-amx-bf16"), as LLVM's target machine takes them."""
    from llvmlite import binding

    return ",".join(("+" if present else "-") + name for name, present in sorted(_feature_map(binding).items()))


def has_feature(name: str) -> bool:
    """Whether this processor has the instruction set extension called `name` by LLVM."""
    return name in cpu_features()


def _feature_map(binding: object) -> dict[str, bool]:
    """Feature name to presence; empty where LLVM cannot find out."""
    try:
        return dict(binding.get_host_cpu_features())  # type: ignore[attr-defined]
    except RuntimeError:
        return {}
