"""beartype stays out of mus until somebody calls it, and is itself then."""

from __future__ import annotations

import subprocess
import sys

CHECK = """
import sys
import mus.broker.streaq_broker
assert not [name for name in sys.modules if name.startswith("beartype._")]
from coredis.typing import infer_hint, is_bearable, is_subhint, safe_beartype
assert is_bearable([1], list[int]) and not is_bearable(["1"], list[int])
assert is_subhint(bool, int)
assert infer_hint([1]) == list[int]
assert [name for name in sys.modules if name.startswith("beartype._")]
@safe_beartype
def double(number: int) -> int:
    return 2 * number
assert double(2) == 4
from beartype.roar import BeartypeCallHintParamViolation
try:
    double("2")
except BeartypeCallHintParamViolation:
    print("checked")
"""


def test_coredis_gets_the_real_one_once_it_calls_it() -> None:
    told = subprocess.run(
        [sys.executable, "-P", "-c", CHECK], capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.stdout, told.stderr) == ("checked\n", "")
