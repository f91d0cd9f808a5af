"""Two bidders, without a server; what they bid is kept in auction.db."""

import asyncio

from app import live

from freshet import Refusal


async def main() -> None:
    async with live.test_client("alice") as alice, live.test_client("bob") as bob:
        for client in (alice, bob):
            await client.subscribe("auction:1")
        await alice.rpc("auction:1", {"amount": 300})
        await bob.rpc("auction:1", {"amount": 450})
        try:
            await alice.rpc("auction:1", {"amount": 405})
        except Refusal as why:
            print("refused:", why)


asyncio.run(main())
