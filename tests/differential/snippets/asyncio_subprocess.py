import asyncio
import sys


async def main():
    p = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('child')", stdout=-1)
    print(await p.communicate(), p.returncode)


asyncio.run(main())
