"""Run fake llama-servers as children, for targets."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def fake_server(*flags: str) -> AsyncIterator[str]:
    """Yield the base URL of a running ``tests.fakes.llama_server``."""
    argv = [sys.executable, "-m", "tests.fakes.llama_server", "--port", "0", *flags]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        yield line.decode().split()[-1]
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
