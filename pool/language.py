"""The language of snippets: its program, its files and its options, in this one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """A language that images provide.

    `name` is its name in requests. `interpreter` is the program on the image's PATH that runs
    snippets. `extension` is the end of a snippet's file name. With the options `isolated` the
    interpreter ignores the environment and any modules that a snippet or the image may have put
    on its path. After the option `text` it runs the next argument instead of a file.
    """

    name: str
    interpreter: str
    extension: str
    isolated: tuple[str, ...]
    text: str

    def script(self, directory: str, stem: str) -> str:
        """Return the path of a snippet's file, such as `/home/code/Main.py`."""
        return f"{directory}/{stem}{self.extension}"

    def run_file(self, path: str) -> tuple[str, ...]:
        """Return the command that runs a file."""
        return (self.interpreter, path)

    def run_text(
        self, source: str, *arguments: str, options: tuple[str, ...] = ()
    ) -> tuple[str, ...]:
        """Return the command that runs a program's text with arguments."""
        return (self.interpreter, *options, self.text, source, *arguments)


PYTHON = Language("python", "python3", ".py", isolated=("-I",), text="-c")
