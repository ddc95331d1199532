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

from mus.library.scan_plan import KnownTrack, ScanPlan
from mus.library.states import TrackState
from mus.library.walk import WalkReport, walk


def main() -> None:
    root = os.fsencode(sys.argv[1])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    folders = list(walk(root, b"", WalkReport()))
    walked = time.perf_counter() - began
    # Rows as a scan reads them from the database; where the walk meets them is not where they lie there.
    rows = [
        KnownTrack(number, *file, str(TrackState.COMPLETE), None)
        for number, file in enumerate((file for folder in folders for file in folder), 1)
    ]
    report = WalkReport()
    began = time.perf_counter()
    plan = ScanPlan(rows, full=False, stable_inodes=True)
    to_read = [file for folder in folders for file in plan.consider(folder)]
    end = plan.conclude(report, b"")
    compared = time.perf_counter() - began
    if to_read or end.missing or plan.unchanged != len(rows):
        raise SystemExit("nothing changed, and yet something is to be done")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "files": len(rows),
                "seconds": {"walk alone": walked, "compare alone": compared},
                "mib": (peak - before) / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
