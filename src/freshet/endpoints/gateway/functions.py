"""Lambda functions: existing handlers `handler(event, context)`, unchanged, in threads or in processes of their own."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from freshet.config.gateway import GatewayIntegration
from freshet.endpoints.gateway import worker
from freshet.endpoints.gateway.integrations import Integration, IntegrationFailed, Occurrence
from freshet.errors import ConfigError
from freshet.rules.hooks import HookLimits

log = logging.getLogger("freshet.gateway")

LARGEST = 6 * 1024 * 1024 + worker.HEADER  # bytes of what a function returns, which is Lambda's own limit


class LambdaThreads(Integration):
    """In threads of this process: quick, and for what one trusts. One that does not end keeps its thread.

    environment: added to that of this process, where it lacks it. handler: the function; None: found by its name.
    """

    def __init__(
        self,
        options: GatewayIntegration,
        environment: Mapping[str, str],
        scheme: str,
        handler: worker.Handler | None = None,
    ) -> None:
        self.name = options.function
        self.limits = HookLimits(options.timeout)
        self._options = options
        self._environment = environment
        if scheme == "http":
            worker.call_this_machine_by_http()
        self._threads: ThreadPoolExecutor | None = None
        self._handler = worker.called(handler) if handler else worker.load(options.function, options.code)

    def start(self) -> None:
        for name, value in self._environment.items():
            os.environ.setdefault(name, value)
        self._threads = ThreadPoolExecutor(self._options.concurrency, "lambda")

    async def stop(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What the function returns."""
        if self._threads is None:
            raise IntegrationFailed("the server is not running")
        occurrence: Occurrence = arguments[0]
        context = worker.LambdaContext(self._options.function, self._options.timeout)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._handler, occurrence.event, context)


class LambdaProcesses(Integration):
    """In processes of its own, one event at a time in each, which are ended with a function that takes too long.

    environment: what they have beside that of this process. scheme: by which they reach this machine.
    """

    def __init__(self, options: GatewayIntegration, environment: Mapping[str, str], scheme: str) -> None:
        self.name = options.function
        self.limits = HookLimits(options.timeout)
        self._options = options
        self._environment = {**environment, **options.environment}
        self._scheme = scheme
        self._idle: list[asyncio.subprocess.Process] = []
        self._busy: set[asyncio.subprocess.Process] = set()
        self._turns: asyncio.Semaphore | None = None
        self._folder = str(Path(options.code).resolve())
        if not Path(options.code).is_dir():
            raise ConfigError("gateway", f"{options.code!r}, the folder of {options.function!r}, is not there")

    def start(self) -> None:
        self._turns = asyncio.Semaphore(self._options.concurrency)

    async def stop(self) -> None:
        processes, self._idle = [*self._idle, *self._busy], []
        self._turns = None
        for process in processes:
            await _end(process)

    async def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What the function returns. Raises `IntegrationFailed` when it raised, or its process ended."""
        if self._turns is None:
            raise IntegrationFailed("the server is not running")
        occurrence: Occurrence = arguments[0]
        async with self._turns:
            process = self._idle.pop() if self._idle else await self._begin()
            self._busy.add(process)
            try:
                reply = await self._ask(process, occurrence.event)
            except BaseException:
                await _end(process)
                raise
            finally:
                self._busy.discard(process)
            await self._keep(process)
        if "error" in reply:
            raise worker.FunctionError(reply["error"], reply.get("message", ""))
        return reply["returned"]

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        if self._turns is not None:
            self._idle.append(process)
        else:  # the node has stopped meanwhile
            await _end(process)

    async def _begin(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            worker.__name__,
            self._options.function,
            self._folder,
            str(self._options.timeout),
            self._scheme,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._environment},
            limit=LARGEST,
        )

    async def _ask(self, process: asyncio.subprocess.Process, event: dict[str, Any]) -> dict[str, Any]:
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        try:
            process.stdin.write(worker.framed(json.dumps(event).encode()))
            await process.stdin.drain()
            size = int.from_bytes(await process.stdout.readexactly(worker.HEADER), "big")
            if size > LARGEST:
                raise IntegrationFailed(f"it returned more than {LARGEST} bytes")
            reply: dict[str, Any] = json.loads(await process.stdout.readexactly(size))
        except (OSError, asyncio.IncompleteReadError):
            raise IntegrationFailed("its process ended: see what it wrote") from None
        return reply


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
