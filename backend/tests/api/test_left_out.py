"""What the API leaves out of memory stays out, and uvicorn's own command line works all the same."""

from __future__ import annotations

import subprocess
import sys

IMPORTS = """
import sys
import mus.api.app, mus.api.server
left_out = {"pydantic.v1.main", "click", "multiprocessing"} & set(sys.modules)
assert not left_out, left_out
import uvicorn
sys.argv = ["uvicorn", "--version"]
uvicorn.main()
"""


def test_what_the_api_leaves_out_is_not_imported_and_uvicorn_has_it_still() -> None:
    ended = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Running uvicorn")
