import asyncio


async def bad(i):
    raise ValueError(i)


async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(bad(1))
        group.create_task(bad(2))


asyncio.run(main())
