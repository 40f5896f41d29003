"""The modules that are imported before a snippet comes, and those that may be imported ahead."""

from __future__ import annotations

PREIMPORT = (
    *("collections", "dataclasses", "datetime", "functools", "itertools", "json", "math"),
    *("random", "re", "string", "time", "typing"),
)
"""These take little time and memory, and nearly every snippet needs some of them."""

IDLE_IMPORTS = (
    *("os", "sys", "io", "abc", "enum", "contextlib", "threading", "collections.abc", *PREIMPORT),
    *("asyncio", "pathlib", "timeit", "csv", "copy", "heapq", "bisect", "struct", "textwrap"),
    *("argparse", "logging", "subprocess", "socket", "ssl", "inspect", "ast", "base64"),
    *("concurrent.futures", "queue", "unittest", "sqlite3", "pickle", "decimal", "hashlib"),
    *("urllib.parse", "urllib.request", "tempfile", "shutil", "fractions", "statistics"),
    *("secrets", "uuid", "pprint", "configparser", "multiprocessing", "http.server"),
    *("email", "email.message", "xml.etree.ElementTree", "unittest.mock"),
)
"""What `settings.env` advises for PGEXEC_IDLE_IMPORTS: the modules that snippets import most
(docs/adr/0020), the most useful for their memory first."""
