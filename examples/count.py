"""Count words: prints those that come at least so often, and writes report.json.

Nothing in it knows of pgexec: `python examples/count.py 2 <words.txt` does the same here.
"""

import json
import sys
from collections import Counter
from pathlib import Path

counts = Counter(sys.stdin.read().split())
for word, count in counts.items():
    if count >= int(sys.argv[1]):
        print(word, count)
Path("report.json").write_text(json.dumps({"words": counts.total()}))
