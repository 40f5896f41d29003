import asyncio
import sys


async def main():
    print("x")
    sys.exit(6)


asyncio.run(main())
