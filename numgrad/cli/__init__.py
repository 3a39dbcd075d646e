"""The command line: ``demo``, ``info``, ``cache``, ``show`` and ``profile``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from numgrad._version import __version__
from numgrad.errors import NumgradError

__all__ = ["main"]

_CASE = ("MODULE:NAME or FILE.py:NAME of a graph, a compiled callable, or a function without arguments that returns "
         "one of them or a pair (function, tuple of arguments) to be called")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m numgrad",
                                     description="Gradients of NumPy programs, compiled by Numba.")
    parser.add_argument("--version", action="version", version=f"numgrad {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="optimise two models on real data and compare with SciPy and NumPy alone")
    demo.add_argument("--plot", metavar="PATH", default="numgrad-demo.png",
                      help="where the convergence plot goes (default %(default)s; needs matplotlib)")
    demo.add_argument("--no-plot", dest="plot", action="store_const", const=None, help="draw nothing")
    commands.add_parser("info", help="versions, processor, vector mathematics, threads, GPU, cache")
    cache = commands.add_parser("cache", help="the kernels kept on disk")
    cache.add_argument("action", choices=["ls", "clear", "path", "export", "import"],
                       help="list them, delete them, tell where they are, write them to a file, or add those of a file")
    cache.add_argument("file", metavar="FILE", nargs="?", help="for export and import")
    show = commands.add_parser("show", help="show the graph of a function")
    show.add_argument("case", metavar="CASE", help=_CASE)
    show.add_argument("--format", choices=["text", "dot", "svg", "html"], default="text")
    show.add_argument("--output", metavar="PATH", help="write to a file instead of the terminal")
    profile = commands.add_parser("profile", help="time each step of a compiled function, or of all that a script runs")
    profile.add_argument("case", metavar="CASE|SCRIPT.py", help="as for show, but with arguments: it must return a "
                         "pair; or a script, to be run")
    profile.add_argument("--flame", metavar="FILE.svg", type=Path, help="write a flame graph of the script's steps")
    profile.add_argument("--trace", metavar="FILE.json", type=Path,
                         help="write a timeline of the script for chrome://tracing or ui.perfetto.dev")
    profile.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        if given.command == "demo":
            from numgrad.cli.demo import demo

            return demo(Path(given.plot) if given.plot else None)
        if given.command == "info":
            from numgrad.cli.info import info

            return info()
        if given.command == "cache":
            from numgrad.cli.info import cache

            return cache(given.action, given.file)
        if given.command == "profile" and given.case.endswith(".py"):
            from numgrad.cli.scripts import profile_script

            return profile_script(Path(given.case), given.arguments, given.flame, given.trace)
        from numgrad.cli.looking import profile, show

        if given.command == "show":
            return show(given.case, given.format, Path(given.output) if given.output else None)
        return profile(given.case)
    except NumgradError as error:
        from numgrad.cli.terminal import fail

        return fail(str(error))
