"""A session: each run sees what earlier ones left, as the cells of a notebook do.

    pip install 'pgexec[client]'
    PGEXEC_URL=http://localhost:8080 python examples/session.py

It shows the value of a last expression, files that stay, output as it comes, `await` at the top, a
table as HTML, a run at its time limit, which keeps the state, and a new interpreter without it.
"""

from __future__ import annotations

from pgexec.client import Client

COUNT = """
import time
for n in range(3):
    print(n, flush=True)
    time.sleep(0.1)
n
"""
AWAIT = """
import asyncio
async def double(n):
    await asyncio.sleep(0.01)
    return 2 * n
sum(await asyncio.gather(*map(double, sales)))
"""
TABLE = """
class Table(list):
    def _repr_html_(self):
        return "<ol>" + "".join(f"<li>{one}</li>" for one in self) + "</ol>"
Table(sales)
"""
ANEW = """
import os
os.listdir(), "sales" in globals()
"""


def main() -> None:
    """Run one cell after the other."""
    with Client() as client, client.session(files={"sales.txt": "20\n22\n"}) as session:
        session.run("sales = [int(line) for line in open('sales.txt')]")
        print("value:", session.run("sum(sales)").value)
        for event in session.stream(COUNT):
            if event.kind == "stdout":
                print("it prints", event.text.strip())
        print("awaited:", session.run(AWAIT).value)
        for shown in session.run(TABLE).displays:
            print("shown:", shown.mime, shown.content)
        late = session.run("time.sleep(60)", timeout_s=0.2)
        print("late:", late.status, "- but there is still", session.run("sales").value)
        session.run("import os; os._exit(1)")
        anew = session.run(ANEW)
        print("restarted:", anew.restarted, anew.value)


if __name__ == "__main__":
    main()
