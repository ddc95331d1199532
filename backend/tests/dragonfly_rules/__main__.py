"""The judge as a process, until it is interrupted: see the package."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from dragonfly_rules.proxy import judging


async def main() -> None:
    upstream, address = (Path(argument) for argument in sys.argv[1:])
    async with judging(upstream, address) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


with suppress(KeyboardInterrupt):
    asyncio.run(main())
