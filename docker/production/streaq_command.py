"""The container's `streaq`: `streaq worker …` is mus's worker, a word that streaQ's own command does not have.

Everything else goes to streaQ's command as it is installed.
"""

import os
import sys
from importlib.metadata import distribution

if sys.argv[1:2] == ["worker"]:
    os.execv(sys.executable, [sys.executable, "-P", "-m", "mus", *sys.argv[1:]])
(streaq,) = distribution("streaq").entry_points.select(group="console_scripts", name="streaq")
sys.argv[0] = streaq.name
sys.exit(streaq.load()())
