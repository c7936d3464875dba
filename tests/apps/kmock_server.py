"""PyPI's kmock as an API server with EndpointSlices. Prints its URL; ends with its standard input."""

import asyncio
import sys

import kmock


async def main() -> None:
    async with kmock.KubernetesEmulator() as emulator, kmock.Server(emulator) as server:
        emulator.resources["discovery.k8s.io/v1/endpointslices"] = {}
        print(server.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
