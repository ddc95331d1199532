"""`python -m mus` is `mus`."""

from __future__ import annotations

from mus.cli.main import main

main()
