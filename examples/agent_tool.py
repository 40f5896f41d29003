"""A code tool for an agent: the model writes Python, the tool answers with text and with files.

    PGEXEC_URL=http://localhost:8080 python examples/agent_tool.py sales.csv

`run_python` is what the agent calls. Here stands the code that a model would have written when it
was asked to plot the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pgexec.client import Client, PgexecError

MOST_CHARS = 10_000
WRITTEN_BY_THE_MODEL = """
import pandas as pd
import matplotlib.pyplot as plt

sales = pd.read_csv("sales.csv").groupby("day", sort=False)["sum"].sum()
sales.plot.bar()
plt.savefig("plot.png")
print(sales.to_string())
"""


def run_python(client: Client, code: str, files: dict[str, Path]) -> tuple[str, dict[str, bytes]]:
    """Run code with files beside it; return the text for the model, and images for the user."""
    try:
        result = client.run(
            code,
            files=files,
            dependencies=["pandas", "matplotlib"],
            collect=["**/*.png"],
            timeout_s=20,
        )
    except PgexecError as error:  # no result: the model cannot mend this by other code
        return f"The tool is not available: {error}", {}
    text = result.data[-MOST_CHARS:]
    if result.error is not None:  # its last line is what the model needs to mend the code
        text += f"\n[{result.status}] {result.error}"
    images = {name: file.content for name, file in result.files.items() if file.content is not None}
    names = ", ".join(images)
    return (f"{text}\n[files] {names}" if images else text), images


def main() -> None:
    """Plot the file that the command line names."""
    with Client() as client:
        given = {"sales.csv": Path(sys.argv[1])}
        text, images = run_python(client, WRITTEN_BY_THE_MODEL, given)
    print(text)
    for name, content in images.items():
        Path(Path(name).name).write_bytes(content)


if __name__ == "__main__":
    main()
