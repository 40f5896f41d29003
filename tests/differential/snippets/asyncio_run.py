import asyncio


async def f(x):
    await asyncio.sleep(0.01 * x)
    return x


async def main():
    print(await asyncio.gather(*(f(i) for i in range(3))))
    print(asyncio.current_task().get_name())


asyncio.run(main())
