"""Plots in a session: what `plt.show()` would show comes back as a picture.

    pip install 'pgexec[client]'
    PGEXEC_URL=http://localhost:8080 python examples/session_plot.py

The packages are installed when the session begins, and imported once: the next plots are quick.
"""

from __future__ import annotations

import base64
from pathlib import Path

from pgexec.client import Client

FRAME = "import pandas\nframe = pandas.DataFrame({'day': ['mon', 'tue'], 'sum': [8, 4]})\nframe"
PLOT = "import matplotlib.pyplot as plt\nplt.bar(frame['day'], frame['sum'])\nplt.show()"
AGAIN = "frame.plot.bar(x='day');"


def main() -> None:
    """Show a table, and draw it twice."""
    with Client() as client, client.session(dependencies=["pandas", "matplotlib"]) as session:
        table = session.run(FRAME)
        print("table:", [shown.mime for shown in table.displays])
        for number, code in enumerate((PLOT, AGAIN)):
            for shown in session.run(code).displays:
                picture = Path(f"plot-{number}.png")
                picture.write_bytes(base64.b64decode(shown.content or ""))
                print("drawn:", shown.mime, picture)


if __name__ == "__main__":
    main()
