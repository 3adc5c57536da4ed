"""How fast is it? Every peer in real processes on loopback, in the same run, alternating.

The machine is seldom quiet, so only ratios within one run count: the cases of a workload
alternate within a round, every second round runs backwards, medians and spread are printed.
Every message is checked: a run in which one is lost, repeated or reordered is no result but an error.
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])    # so that it runs as a file, and its processes find it too
if "TREE" in os.environ:
    sys.path.insert(0, os.environ["TREE"])      # another checkout is measured; what it has not got is taken from here
    os.chdir(os.environ["TREE"])

from tests.benchmarks import costs, report, rst  # noqa: E402
from tests.benchmarks.stage import Missing, Stage  # noqa: E402
from tests.benchmarks.workload import Scale, bound  # noqa: E402
from tests.benchmarks.workloads import WORKLOADS  # noqa: E402


def main():
    if sys.argv[1:2] == ["profile"]:
        costs.main(sys.argv[2:])
        return
    options = parse_arguments()
    facts = report.machine(options.folder, options.store)
    report.print_machine(facts)
    measured: dict = {}
    missing: set = set()
    for name in options.workloads or WORKLOADS:
        workload = WORKLOADS[name]
        measured[name] = [run_round(workload, number, options, missing) for number in range(options.rounds)]
        report.print_workload(workload, measured[name])
        if options.json:
            options.json.write_text(json.dumps({**facts, "workloads": measured}, indent=1) + "\n")
    if options.rst:
        options.rst.write_text("\n".join(rst.tables(WORKLOADS, measured, facts)) + "\n")
    if options.picture:
        from tests.benchmarks.picture import draw  # loads matplotlib
        draw(measured, facts, options.picture)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"any of {_named()}; default: all")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each case runs (3)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases with TEXT in their names")
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages: to see that it runs")
    parser.add_argument("--long", action="store_true", help="all that a workload has to show: day takes ten minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every run to FILE")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the tables to FILE as reStructuredText")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="draw throughput by batch size and latencies to FILE, a PNG (workloads: sizes, steady)")
    parser.add_argument("--store", choices=("lmdb:", "memory:"), default="lmdb:",
                        help="lmdb: (default), or memory: to see what the disk costs")
    parser.add_argument("--folder", metavar="FOLDER", help="where the stores go: the disk that is measured")
    options = parser.parse_args()
    tags = {one.tag: name for name, one in WORKLOADS.items()}
    options.workloads = [tags.get(name, name) for name in options.workloads]
    unknown = set(options.workloads) - set(WORKLOADS)
    if unknown or options.rounds < 1:
        parser.error(f"no such workload: {', '.join(unknown)}" if unknown else "at least one round")
    return options


def _named():
    return ", ".join(f"{name} ({one.tag})" if one.tag else name for name, one in WORKLOADS.items())


def run_round(workload, number, options, missing):
    """Return the figures of each case, by name; a case whose peer is not installed is left out, which is told once."""
    cases = [case for case in workload.cases if options.only in case.name]
    found = {}
    for case in reversed(cases) if number % 2 else cases:
        try:
            with Stage(options.store, options.folder) as stage:
                found[case.name] = case.run(stage, Scale(options.quick, options.long))
        except Missing as error:
            if str(error) not in missing:
                missing.add(str(error))
                report.print_skipped(f"{error}")
            continue
        found[case.name]["bound"] = bound(found[case.name], case.durability, os.cpu_count())
        report.print_progress(f"{workload.name} round {number + 1}: {case.name}: {found[case.name]['rate']:,.0f}")
    return found


if __name__ == "__main__":
    main()
