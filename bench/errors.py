"""Why there is no figure: a wrong one would be worse than none."""


class BenchError(Exception):
    """Something measured did not do its work."""


class AnswerError(BenchError):
    """A run was answered, but not as it should have been."""


class BrokenConnectionError(BenchError):
    """The server closed the connection, or sent what is no plain answer."""


class FlowError(BenchError):
    """The engine did not do what pgexec is compared with."""


class ServerError(BenchError):
    """The server did not start or become ready; the message holds its last words."""
