from pathlib import Path

p = Path(__file__)
print(p, p.parent, Path.cwd(), Path("a/b").resolve(), p.read_text()[:20])
Path("x.txt").write_text("größe\n")
print(Path("x.txt").read_bytes(), sorted(x.name for x in Path().iterdir()))
Path("missing").read_text()
