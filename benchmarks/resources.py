"""Time and peak memory of finished runs: ``python benchmarks/resources.py RESULTS [--json]``.

A row a run: minutes of its process and those charged to its budget, the share of the budget spent, peak memory.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bench.store.run_folder import RESOURCES, done_runs, read_json

GIB = 2**30


def rows(results: Path) -> list[dict[str, Any]]:
    """Runs of today's bench; those from before have no such record."""
    found = []
    for path in done_runs(results):
        if not (path / RESOURCES).exists():
            continue
        plan, ledger = read_json(path / "plan.json"), read_json(path / "done.json")["ledger"]
        names = {"run": path.name, "method": plan["method"], "seed": plan["seed"]}
        found.append(
            {**names, "charged_seconds": ledger["seconds"], "steps": ledger["steps"], **read_json(path / RESOURCES)}
        )
    return found


def show(found: list[dict[str, Any]]) -> str:
    """A line a run."""
    names = ("method", "seed", "steps", "minutes", "charged", "host GiB", "device GiB")
    lines = ["{:<12} {:>4} {:>6} {:>8} {:>8} {:>9} {:>11}".format(*names)]
    for row in found:
        device = f"{row['peak_device_bytes'] / GIB:.2f}" if "peak_device_bytes" in row else "-"
        minutes = f"{row['seconds'] / 60:8.1f} {row['charged_seconds'] / 60:8.1f}"
        host = f"{row['peak_host_bytes'] / GIB:9.2f}"
        lines.append(f"{row['method']:<12} {row['seed']:>4} {row['steps']:>6} {minutes} {host} {device:>11}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = rows(given.results)
    print(json.dumps(found, indent=1) if given.json else show(found))


if __name__ == "__main__":
    main()
