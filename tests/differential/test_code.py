"""Code of any content reaches the interpreter as it was sent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.differential.twins import Twins

pytestmark = pytest.mark.asyncio(loop_scope="session")

DIGEST = b"import hashlib; print(hashlib.sha256(open(__file__, 'rb').read()).hexdigest())"
EVERY_QUOTE = b"""x = 'single' + "double" + '$HOME ${x} $(id) `id` \\\\ \\x41 %s %% {} !!'\n"""
MEBIBYTE = 1 << 20


def _filled(unit: bytes) -> bytes:
    room = MEBIBYTE - len(DIGEST) - 1
    return DIGEST + b"\n" + unit * (room // len(unit)) + b"#" * (room % len(unit))


WHOLE = {
    "quotes_dollars_backticks_backslashes": EVERY_QUOTE + b"print(x)\n" + DIGEST,
    "emoji_and_other_alphabets": "größe = '🎉 日本語 \u202e'\nprint(größe)\n".encode() + DIGEST,
    "crlf": b"x = '''a\r\nb'''\r\nprint(repr(x))\r\n" + DIGEST + b"\r\n",
    "lone_carriage_returns": b"x = '''a\rb'''\rprint(repr(x))\r" + DIGEST,
    "mixed_line_ends": b"x = 1\r\ny = 2\nprint(x, y)\r" + DIGEST + b"\n\r\n",
    "tabs": b"if True:\n\tx = '\t'\n\tif x:\n\t\tprint(repr(x))\n" + DIGEST,
    "form_feed_and_control_characters": b"\x0cx = '\x01\x0b\x1b\x7f'\nprint(repr(x))\n" + DIGEST,
    "no_newline_at_the_end": DIGEST,
    "many_newlines_at_the_end": DIGEST + b"\n" * 1000,
    "byte_order_mark": b"\xef\xbb\xbf" + "print('ü')\n".encode() + DIGEST,
    "latin_1_cookie": b"# -*- coding: latin-1 -*-\nprint('gr\xf6\xdfe')\n" + DIGEST,
    "cookie_in_the_second_line": b"#!/usr/bin/python3\n# vim: set fileencoding=cp1252 :\n"
    b"print('\x80')\n" + DIGEST,
    "shell_heredoc_ends": b"x = '''\nEOF\n'\\''\nEOF'''\nprint(x)\n" + DIGEST,
    "format_and_template_syntax": b"print('{code} {{}} %(x)s %d <% %> {# #}')\n" + DIGEST,
    "one_mebibyte_of_statements": _filled(b"x = 'abcdefghijklmnopqrstuvwxyz'\n"),
    "one_mebibyte_of_emoji": _filled("# 🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉\n".encode()),
    "one_line_of_a_mebibyte": _filled(b"#"),
}
BROKEN = {
    "nul": b"print(1)\nx = '\0'\nprint(2)\n",
    "nul_first": b"\0print(1)\n",
    "nul_in_a_comment": b"print(1)\n# \0\nprint(2)\n",
    "only_nuls": bytes(10),
    "unknown_cookie": b"# coding: no-such-codec\nprint(1)\n",
    "cookie_that_is_no_text_codec": b"# coding: rot13\ncevag(1)\n",
    "latin_1_without_cookie": b"print('gr\xf6\xdfe')\n",
    "byte_order_mark_against_cookie": b"\xef\xbb\xbf# coding: latin-1\nprint(1)\n",
    "utf_16": "print(1)\n".encode("utf-16"),
    "random_bytes": bytes(range(255, 0, -1)),
    "tabs_against_spaces": b"if True:\n        x = 1\n\ty = 2\n",
    "caret_after_tabs": b"if True:\n\t\tx = (1,\t2\t3)\n",
    "caret_after_wide_characters": "x = '日本語🎉' + 'ü' 3\n".encode(),
    "error_in_crlf": b"x = 1\r\ny = (\r\nz = 3\r\n",
    "error_without_newline": b"x = 1\ny =",
    "backslash_last": b"x = 1\\",
    "error_in_a_long_line": b"x = [" + b"1, " * 2000 + b"1 1]\n",
    "traceback_in_latin_1": b"# coding: latin-1\nx = 'gr\xf6\xdfe'; 1 / 0\n",
    "traceback_in_crlf": b"x = 1\r\nx / 0\r\n",
    "traceback_after_tabs": b"if True:\n\t\tx = 1 +\t1 /\t0\n",
    "traceback_at_line_30000": b"\n" * 29_999 + b"1 / 0",
    "whitespace": b" \n\t\n",
    "control_z": b"print(1)\n\x1aprint(2)\n",
}


@pytest.mark.parametrize("code", WHOLE.values(), ids=WHOLE)
async def test_code_arrives_unharmed(twins: Twins, code: bytes) -> None:
    """The file that the snippet finds under its own name is what was sent."""
    warm, plain = await twins.run(code)
    assert warm == plain
    assert warm.stdout.split()[-1].decode() == hashlib.sha256(code).hexdigest()


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
async def test_code_that_is_broken_fails_as_it_would_anywhere(twins: Twins, code: bytes) -> None:
    """The interpreter itself reads the file, and says what is wrong with it."""
    warm, plain = await twins.run(code)
    assert warm == plain
