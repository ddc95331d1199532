"""Walk a folder and compare what is found with as many simulated rows, in a process of its own: `walk` runs it.

    python walk_alone.py ROOT

Prints one object: seconds of each part, and the memory that the process took for the rows and the files.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from itertools import chain

from mus.library.scan_plan import ScanPlan, Settled
from mus.library.walk import WalkReport, walk


def main() -> None:
    root = os.fsencode(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    folders = list(walk(root, b"", WalkReport()))
    walked = time.perf_counter() - began
    # As a scan has them from the database: a few large texts.
    pairs = [pair for folder in folders for pair in zip(folder.paths, folder.versions, strict=True)]
    texts = [b"//".join(chain.from_iterable(pairs[start : start + 65536])) for start in range(0, len(pairs), 65536)]
    files = len(pairs)
    del pairs
    report = WalkReport()
    began = time.perf_counter()
    plan = ScanPlan(Settled(texts, files), list, full=False, stable_inodes=True)
    to_read = [file for folder in folders for file in plan.consider(folder)]
    end = plan.conclude(report, b"")
    compared = time.perf_counter() - began
    if to_read or end.missing or plan.unchanged != files:
        raise SystemExit("nothing changed, and yet something is to be done")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "files": files,
                "seconds": {"walk alone": walked, "compare alone": compared},
                "mib": (peak - before) / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
