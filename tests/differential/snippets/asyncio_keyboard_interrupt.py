import asyncio
import signal


async def main():
    try:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(5)
    finally:
        print("cancelled", flush=True)


asyncio.run(main())
