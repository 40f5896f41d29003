"""Run code snippets in warm containers. `pgexec COMMAND --help` says more of a command."""

# Each command has imports of its own: so `--help` loads neither the server nor the settings,
# which take a second on a small machine.

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pgexec import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgexec.app import Backend
    from pgexec.settings import Settings

EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the process's exit status. Without a command, print the help."""
    parser = _parser()
    own = list(sys.argv[1:] if arguments is None else arguments)
    args: list[str] = []
    if own[:1] == ["run"] and "--" in own:  # the rest is the script's, options and all
        end = own.index("--")
        own, args = own[:end], own[end + 1 :]
    options = parser.parse_args(own)
    status = 0
    match options.command:
        case "run":
            status = run_command(options, args)
        case "mcp":
            status = mcp_command(options)
        case "serve":
            given = {"host": options.host, "port": options.port}
            known = {name: text for name, text in given.items() if text is not None}
            status = serve_command(known)
        case "settings":
            status = settings_command(as_json=options.json)
        case "doctor":
            status = doctor_command(as_json=options.json)
        case "advise":
            status = advise_command(
                options.sources, options.window, options.key, as_json=options.json
            )
        case _:
            parser.print_help()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pgexec", description=__doc__)
    parser.add_argument("--version", action="version", version=f"pgexec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve over HTTP in the foreground")
    serve.add_argument("--host", help="the address to listen on, in place of PGEXEC_HOST")
    serve.add_argument("--port", help="the TCP port, in place of PGEXEC_PORT; 0 for any free one")
    run = commands.add_parser(
        "run",
        help="run a file on a server as if it ran here",
        usage="pgexec run [-h] [-d REQUIREMENT] [-f FILE] [-c PATTERN] [--language NAME] "
        "[--timeout SECONDS] SCRIPT [-- ARGUMENT ...]",
        description="Run a file on the server at PGEXEC_URL (http://localhost:8080 by default) "
        "with the key in PGEXEC_API_KEY. The exit status is the script's own; 124 at a time limit, "
        "125 if there is no result. Ctrl-C ends the run.",
    )
    run.add_argument("script", metavar="SCRIPT", help="a file, or - for code from standard input")
    for short, long, metavar, text in (
        ("-d", "--dependency", "REQUIREMENT", "a package to install; may be repeated"),
        ("-f", "--file", "FILE", "a file that the script reads; may be repeated"),
        ("-c", "--collect", "PATTERN", "files to put down beside the script; may be repeated"),
    ):
        run.add_argument(short, long, action="append", default=[], metavar=metavar, help=text)
    run.add_argument("--language", default="python", metavar="NAME", help="python, or a profile")
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="the server's by default")
    _add_mcp(commands)
    settings = commands.add_parser(
        "settings", help="print every setting: value, where it comes from, default, advice"
    )
    settings.add_argument("--json", action="store_true", help="print them for machines")
    doctor = commands.add_parser("doctor", help="check what the server stands on, by trying it")
    doctor.add_argument("--json", action="store_true", help="print findings for machines")
    advise = commands.add_parser("advise", help="say which settings to change, and why")
    advise.add_argument(
        "sources",
        metavar="source",
        nargs="+",
        help="a server's /metrics (URL, or file, or - for standard input), the URL of a "
        "Prometheus that scrapes it, a trace (CSV), or the server's log; several are taken "
        "together, as servers with the same settings",
    )
    advise.add_argument("--window", default="7d", help="of Prometheus, such as 12h; 7d by default")
    advise.add_argument(
        "--key",
        default=os.environ.get("PGEXEC_API_KEY", ""),
        help="for the /metrics of a server with API keys; by default PGEXEC_API_KEY's",
    )
    advise.add_argument("--json", action="store_true", help="print the advice for machines")
    return parser


def _add_mcp(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    mcp = commands.add_parser(
        "mcp",
        help="be a tool for agents, by the Model Context Protocol",
        description="Serve the tools over standard input and output, for the server at PGEXEC_URL "
        "(http://localhost:8080 by default) with the key in PGEXEC_API_KEY.",
    )
    mcp.add_argument("--language", default="python", metavar="NAME", help="python, or a profile")
    mcp.add_argument("--http", action="store_true", help="serve over HTTP, at /mcp")
    mcp.add_argument("--host", default="127.0.0.1", help="of --http; by default 127.0.0.1")
    mcp.add_argument("--port", default=8081, type=int, help="of --http; 0 for any free one")


def serve_command(options: Mapping[str, str]) -> int:
    """Serve until a signal; `options` win over the settings of the same names."""
    from pgexec.backend.docker import DockerBackend

    return run_server(DockerBackend, options)


def run_command(options: argparse.Namespace, args: Sequence[str]) -> int:
    """Run a script on a server; the status is the script's own."""
    try:
        from pgexec.client.command import RunCommand
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        return _fail(EXIT_FAILED, "`pgexec run` needs httpx: install pgexec[client]")
    command = RunCommand(
        script=options.script,
        args=tuple(args),
        dependencies=tuple(options.dependency),
        files=tuple(options.file),
        collect=tuple(options.collect),
        language=options.language,
        timeout_s=options.timeout,
    )
    try:
        return command.run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _stop_printing()


def mcp_command(options: argparse.Namespace) -> int:
    """Serve the tools until the client has gone, or a signal."""
    try:
        from pgexec.mcp.command import McpCommand
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"httpx", "mcp", "mcp_types"}:
            raise
        return _fail(EXIT_FAILED, "`pgexec mcp` needs the SDK of MCP, 2.x: install pgexec[mcp]")
    command = McpCommand(options.language, options.http, options.host, options.port)
    try:
        return command.run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def settings_command(*, as_json: bool) -> int:
    """Print every setting, then errors and warnings; the status is 2 if there is an error."""
    from pgexec.settings import SettingsError, listing, load_settings

    try:
        listed = listing.entries()
        if status := _print(listing.render_json(listed) if as_json else listing.render(listed)):
            return status
        _, warnings = load_settings()
    except (OSError, UnicodeError) as error:
        return _fail(EXIT_MISCONFIGURED, f"the settings cannot be read: {error}")
    except SettingsError as error:
        return _fail(EXIT_MISCONFIGURED, str(error))
    for warning in warnings:
        print(f"pgexec: {warning}", file=sys.stderr)
    return 0


def doctor_command(*, as_json: bool) -> int:
    """Print a finding for each check; the status is 0 unless one of them failed."""
    import asyncio

    from pgexec.doctor.examination import examine
    from pgexec.doctor.findings import Finding, exit_status, fail, render, render_json
    from pgexec.settings import SettingsError, load_settings

    def tell(finding: Finding) -> None:
        if not as_json:
            print(render(finding), flush=True)

    try:
        settings, warnings = load_settings()
    except SettingsError as error:
        finding = fail(str(error), "correct it in settings.local.env or the environment")
        findings, status = [finding.of("settings")], EXIT_MISCONFIGURED
        tell(findings[0])
    else:
        try:
            findings = asyncio.run(examine(settings, warnings, tell))
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            return _stop_printing()
        status = exit_status(findings)
    if as_json:
        print(render_json(findings))
    return status


def advise_command(sources: Sequence[str], window: str, key: str, *, as_json: bool) -> int:
    """Print advice on the settings, which all sources must have in common."""
    from pgexec.advise.advice import DifferentError, advise, render, render_json, together
    from pgexec.advise.sources import SourceError, evidence_of
    from pgexec.settings import SettingsError, load_settings

    try:
        settings, _ = load_settings()
        once = dict.fromkeys(sources)
        advice = advise(together([evidence_of(one, window, settings, key) for one in once]))
    except SettingsError as error:
        return _fail(EXIT_MISCONFIGURED, str(error))
    except (SourceError, DifferentError) as error:
        return _fail(EXIT_FAILED, str(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return _print(render_json(advice) if as_json else render(advice))


def run_server(
    backend: Callable[[Settings], Backend], options: Mapping[str, str] | None = None
) -> int:
    """Read the settings, start the log, and serve. Any error is printed as one sentence."""
    import logging

    import uvloop

    from pgexec.app import ListenError, serve
    from pgexec.process.limits import fix_malloc_thresholds, raise_open_files_limit
    from pgexec.settings import SettingsError, load_settings
    from pgexec.telemetry.log import start_logging

    try:
        settings, warnings = load_settings(**(options or {}))
    except SettingsError as error:
        return _fail(EXIT_MISCONFIGURED, str(error))
    file = settings.log_file if settings.generate_log_file else None
    try:
        flush = start_logging(settings.log_level, file, settings.server_name)
    except OSError as error:
        sentence = f"PGEXEC_LOG_FILE is {settings.log_file!r}, which cannot be written"
        return _fail(EXIT_MISCONFIGURED, f"{sentence}: {error.strerror}")
    try:
        complaint = raise_open_files_limit()
        for warning in (*warnings, *filter(None, [complaint])):
            logging.getLogger("pgexec").warning(warning)

        served = False

        async def serve_backend() -> None:
            nonlocal served
            await serve(settings, backend(settings), flush)
            served = True

        fix_malloc_thresholds()
        try:
            uvloop.run(serve_backend())
        except KeyboardInterrupt:
            if not served:  # else the signal came while the loop was being closed
                raise
    except SettingsError as error:  # for example, of the engine's certificates, which are read late
        return _fail(EXIT_MISCONFIGURED, str(error))
    except ListenError as error:
        return _fail(EXIT_FAILED, str(error))
    finally:
        flush()
    return 0


def _print(text: str) -> int:
    """Print a text and return 0; return 1 if the reader has gone or the disk is full."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        return _stop_printing()
    except OSError as error:
        _stop_printing()
        return _fail(EXIT_FAILED, f"standard output cannot be written: {error.strerror}")
    return 0


def _stop_printing() -> int:
    """Write nothing more to stdout, whose reader has gone: else Python complains at its exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_FAILED


def _fail(status: int, sentence: str) -> int:
    print(f"pgexec: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
