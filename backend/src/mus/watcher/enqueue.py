"""From settled changes to jobs: a few jobs with many paths each."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import batched as _batched  # type: ignore[attr-defined]
