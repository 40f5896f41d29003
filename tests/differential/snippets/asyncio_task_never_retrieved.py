import asyncio


async def bad():
    raise ValueError("nobody asks")


async def main():
    asyncio.ensure_future(bad())
    await asyncio.sleep(0)
    await asyncio.sleep(0)


asyncio.run(main())
