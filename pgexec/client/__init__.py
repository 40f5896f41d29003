"""A client of a pgexec server: `Client` for threads, `AsyncClient` for asyncio.

It needs httpx (the extra `pgexec[client]`) and nothing of the server's; see
`docs/adr/0014-client.md`. Example:

    from pgexec.client import Client

    with Client("http://localhost:8080", key="secret") as client:
        result = client.run("print(input())", stdin="hello")
        print(result.stdout, result.error)
"""

from pgexec.client.asynchronous import AsyncClient, AsyncSession
from pgexec.client.batch import BatchRun, CompletedBatch
from pgexec.client.errors import PgexecError, RunLost, RunRefused
from pgexec.client.events import RunEvent
from pgexec.client.result import CompletedRun, Display, ReturnedFile
from pgexec.client.synchronous import Client, Session

__all__ = [
    "AsyncClient",
    "AsyncSession",
    "BatchRun",
    "Client",
    "CompletedBatch",
    "CompletedRun",
    "Display",
    "PgexecError",
    "ReturnedFile",
    "RunEvent",
    "RunLost",
    "RunRefused",
    "Session",
]
