import asyncio


async def f():
    raise ValueError("in a coroutine")


async def main():
    await f()


asyncio.run(main())
