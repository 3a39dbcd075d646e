"""The command line: ``python -m perf`` measures, ``trace ROW`` makes a timeline.

``aggregate`` compares strategies of summing, and ``publish`` joins the latest results to perf/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from perf import report
from perf.fleet import Fleet, cases, find_libraries, measure_probe, measure_row
from perf.row import PROBES, ROWS, load

HERE = Path(__file__).resolve().parent


def _measure_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    parser.add_argument("names", nargs="*", help="rows and probes; all of them without a name")
    parser.add_argument("--list", action="store_true", help="only say what can be measured")
    parser.add_argument("--sizes", type=int, default=None, metavar="N", help="only the N smallest sizes of each")
    parser.add_argument(
        "--threads", default="1,2", help="numbers of threads for rows, separated by commas (default 1,2)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each version gets its turn (default 7)")
    parser.add_argument("--seconds", type=float, default=0.05, help="length of a turn (default 0.05)")
    parser.add_argument("--only", default=None, help="versions to run beside numgrad, separated by commas")
    parser.add_argument(
        "--peer-python",
        action="append",
        default=[],
        metavar="PYTHON",
        help="another interpreter in which libraries are looked for (NUMGRAD_PERF_PYTHONS lists some, as PATH does)",
    )
    parser.add_argument("--update", action="store_true", help="keep the other results that the output folder holds")
    parser.add_argument(
        "-o", "--output", type=Path, default=HERE / "results", help="folder for results.json and results.md"
    )
    return parser


def _measure(arguments: list[str]) -> int:
    options = _measure_parser().parse_args(arguments)
    names = options.names or [*ROWS, *PROBES]
    unknown = [n for n in names if n not in ROWS and n not in PROBES]
    if options.list or unknown:
        for name, what in {**ROWS, **PROBES}.items():
            print(f"{name:20} {what.title}; sizes {', '.join(report.show_size(s) for s in what.sizes)}")
        if unknown:
            print(f"there is no {', '.join(unknown)}", file=sys.stderr)
        return 2 if unknown else 0
    extra = [p for p in os.environ.get("NUMGRAD_PERF_PYTHONS", "").split(os.pathsep) if p]
    libraries = find_libraries([sys.executable, *options.peer_python, *extra])
    only = options.only.split(",") if options.only is not None else None
    facts = report.machine(libraries)
    results = []
    with Fleet(libraries) as fleet:
        for name, index in cases(names, options.sizes):
            if name in PROBES:
                results.append(measure_probe(fleet, name, index, 1, only))
                print("\n".join(report.probe_table(results[-1:])[2:]), flush=True)
                continue
            for threads in map(int, options.threads.split(",")):
                results.append(measure_row(fleet, ROWS[name], index, threads, options.rounds, options.seconds, only))
                print(report.row_table(results[-1:])[2], flush=True)
    for line in report.failures(results):
        print("failed:", line, file=sys.stderr)
    print("written:", *report.write(options.output, facts, results, options.update))
    return 1 if report.failures(results) else 0


def main(arguments: list[str]) -> int:
    """Run the command line; the exit status."""
    load()
    if arguments[:1] == ["trace"]:
        from perf import timeline

        return timeline.main(arguments[1:])
    if arguments[:1] == ["aggregate"]:
        from perf import bench_aggregate

        return bench_aggregate.main(arguments[1:])
    if arguments[:1] == ["publish"]:
        print(
            "written:", report.publish(Path(arguments[1]) if arguments[1:] else HERE / "results", HERE / "RESULTS.md")
        )
        return 0
    return _measure(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
