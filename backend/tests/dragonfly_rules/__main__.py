"""The judge as a process, until it is interrupted or its Valkey is gone: see the package."""

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
        reader, writer = await asyncio.open_unix_connection(upstream)
        await reader.read()
        writer.close()


with suppress(KeyboardInterrupt):
    asyncio.run(main())
