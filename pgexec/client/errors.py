"""The errors of the client. What a snippet does is never one: it is a result."""

from __future__ import annotations


class PgexecError(Exception):
    """A request got no result.

    - `code`: the server's word for machines, such as `saturated`, or one of the client's own:
      `unreachable`, `cut` or `http_…`
    - `status`: the HTTP status, or `None` if there was no answer
    - `retry_after_s`: in how many seconds to come back, or 0 if the server does not say it
    """

    def __init__(
        self, sentence: str, *, code: str, status: int | None = None, retry_after_s: int = 0
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s


class RunRefused(PgexecError):
    """Nothing ran: the request is wrong, or the server cannot be reached or serve it now."""


class RunLost(PgexecError):
    """The snippet may have run, in whole or in part: its answer was cut off, or it was lost."""
