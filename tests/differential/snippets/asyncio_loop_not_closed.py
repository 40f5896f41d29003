import asyncio


async def main():
    asyncio.ensure_future(asyncio.sleep(100))
    await asyncio.sleep(0)


loop = asyncio.new_event_loop()
loop.run_until_complete(main())
print("left open")
