"""The composition root: settings -> engine -> pool -> service -> application -> socket."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from socket import gethostname
from typing import TYPE_CHECKING, Protocol

from pgexec.doctor.canary import Canary
from pgexec.http.record import SENDER
from pgexec.http.routes import CONTEXT, PATHS, make_app
from pgexec.http.server import HttpServer
from pgexec.process.limits import freeze_garbage_collector
from pgexec.process.loop import sample_lag, watching
from pgexec.process.signals import stop_signals
from pgexec.service import PoolService
from pgexec.sessions import SessionService
from pgexec.settings.pool import pool_config
from pgexec.telemetry.log import event
from pgexec.telemetry.metrics import Metrics
from pool.manager import PoolManager

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgexec.backend.laboratory import Laboratory
    from pgexec.http.tracing import Tracer
    from pgexec.service import Dependencies
    from pgexec.settings import Profile, Settings
    from pool.container import Container
    from pool.engine.api import EngineObserver
    from pool.observer import LayerObserver

logger = logging.getLogger("pgexec")

OTLP_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
WARM_POLL_S = 0.2
CLEAN_UP_S = 2.0
"""The attendant of the engine may clean up for so many seconds. If the engine is away, it would
never end."""


class ListenError(Exception):
    """The server cannot listen on its address; the text gives the reason."""


class Backend(Protocol):
    """The part of the container engine that this module needs."""

    def observe(self, engine: EngineObserver, layers: LayerObserver) -> None:
        """From now on, tell `engine` of each call and leak, and `layers` of each layer."""
        ...

    def stop_installing(self) -> None:
        """Install nothing any more. Runs that wait for an installation get an error at once."""
        ...

    async def launch(self, number: int, language: str) -> Container:
        """Start a warm container for a language. Its pool gives each one a new `number`."""
        ...

    async def laboratory(self, language: str) -> Laboratory:
        """Return a source of spare containers that are like those of a language's pool.

        Raises `PoolError`.
        """
        ...

    @property
    def dependencies(self) -> Dependencies:
        """The layers of dependencies."""
        ...

    async def attend(self, pools: Mapping[str, PoolManager]) -> None:
        """Sweep containers of earlier servers, and tell the pools when the engine is back; forever.

        `pools` has a pool by language. They are not started yet: the first step may pause them.
        """
        ...

    async def close(self) -> None:
        """Close all connections to the engine."""
        ...


async def serve(settings: Settings, backend: Backend, flush: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the process at once.

    `flush` writes out the log before such an end. If the engine is away, `/readyz` says so until
    it is there. Raises `ListenError`.
    """
    metrics = Metrics(tuple(settings.by_language), settings.server_name)
    pools = {
        language: _make_pool(profile, backend, metrics)
        for language, profile in settings.by_language.items()
    }
    metrics.demand.watch({language: pool.demand for language, pool in pools.items()}, settings)
    backend.observe(metrics.engine, metrics.layers)
    canary = Canary(
        backend.laboratory, metrics.canary, settings.canary_interval_s, tuple(settings.by_language)
    )
    service = PoolService(
        pools,
        backend.dependencies,
        output_limit_bytes=settings.output_limit,
        collect_limit_bytes=settings.collect_limit,
        files_max=settings.files_max,
    )
    tracer = _tracer()
    sessions = SessionService(
        service,
        pools,
        observer=metrics.sessions,
        server_name=settings.server_name,
        address=f"{gethostname()}:{settings.port}",
    )
    metrics.sessions.watch(sessions.counts)
    app = make_app(settings, service, metrics, tracer, sessions)
    server = HttpServer(
        app,
        app[CONTEXT].reporter.answered,
        request_timeout_s=settings.request_timeout_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        max_connections=settings.max_connections,
    )
    freeze_garbage_collector()
    with stop_signals(flush) as stop, watching(asyncio.get_running_loop()):
        try:
            await _listen(server, settings)
            attendant = asyncio.create_task(backend.attend(pools), name="attend the engine")
            lag = asyncio.create_task(sample_lag(metrics.lagged), name="sample the loop's lag")
            probing = asyncio.create_task(canary.attend(), name="probe the isolation")
            warming = asyncio.create_task(_tell_when_warm(service), name="tell when all is warm")
            try:
                await asyncio.sleep(0)  # the attendant may pause the pools before they start
                for pool in pools.values():
                    pool.start()
                await _first(stop, attendant)
                app[SENDER].leaving = True
                event(logger, logging.INFO, "leaving", {"delay_s": settings.drain_delay_s})
                await _delay(settings.drain_delay_s, attendant)
            finally:
                event(logger, logging.INFO, "draining", {"timeout_s": settings.drain_timeout_s})
                server.stop_listening()
                probing.cancel()
                warming.cancel()
                backend.stop_installing()
                sessions.drain()
                await asyncio.gather(*(pool.drain() for pool in pools.values()))
                attendant.cancel()
                lag.cancel()
                await asyncio.wait([attendant, lag, probing, warming], timeout=CLEAN_UP_S)
        finally:
            await server.close()
            await sessions.close()
            await backend.close()
            if tracer is not None:
                await tracer.close()
    logger.info("stopped")


def _make_pool(profile: Profile, backend: Backend, metrics: Metrics) -> PoolManager:
    async def launch(number: int) -> Container:
        return await backend.launch(number, profile.name)

    watched = metrics.pool(profile.name)
    pool = PoolManager(launch, pool_config(profile.settings), observer=watched)
    watched.watch(pool.snapshot, pool.config)
    return pool


async def _listen(server: HttpServer, settings: Settings) -> None:
    where = f"{settings.host}:{settings.port}"
    try:
        port = await server.start(settings.host, settings.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"{where} is in use; stop what listens there or set PGEXEC_PORT"
        else:
            sentence = f"cannot listen on {where}: {error.strerror or error}"
        raise ListenError(sentence) from error
    fields: dict[str, object] = {"host": settings.host, "port": port}
    if settings.page:
        fields["page"] = f"http://{_host_for_people(settings.host)}:{port}/"
    event(logger, logging.INFO, "listening", fields)
    if settings.exposed:
        logger.warning(
            "anyone who can reach %s may run code here: set PGEXEC_API_KEYS, or PGEXEC_HOST "
            "to 127.0.0.1",
            settings.host,
        )


def _host_for_people(host: str) -> str:
    """Return a host that a browser on this machine can open, in a URL's form."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # compared, not bound
        return "localhost"
    return f"[{host}]" if ":" in host else host


async def _tell_when_warm(service: PoolService) -> None:
    """Log once that all pools are full for the first time, and the seconds that this took."""
    began = time.monotonic()
    while service.unready() is not None:  # noqa: ASYNC110  # ends with the start
        await asyncio.sleep(WARM_POLL_S)
    idle = {name: pool.idle for name, pool in service.pools().items()}
    fields = {"took_s": round(time.monotonic() - began, 3), "idle": idle}
    event(logger, logging.INFO, "warm", fields)


def _tracer() -> Tracer | None:
    """Return a tracer of requests if OpenTelemetry's own variables ask for one, else `None`."""
    asked = next(filter(os.environ.get, OTLP_ENDPOINTS), None)
    if asked is None or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        from pgexec.http.tracing import Tracer  # noqa: PLC0415  # an extra, slow to import
    except ImportError as error:
        logger.warning("%s is set, but there are no traces without pgexec[otel]: %s", asked, error)
        return None
    return Tracer(PATHS)


async def _delay(seconds: float, attendant: asyncio.Task[None]) -> None:
    """Go on to serve until balancers have noticed that `/readyz` says no."""
    await asyncio.wait([attendant], timeout=seconds)
    if attendant.done():
        attendant.result()


async def _first(stop: asyncio.Event, attendant: asyncio.Task[None]) -> None:
    """Wait for the signal. If the attendant ends before it, that is a bug: raise its error."""
    stopped = asyncio.create_task(stop.wait(), name="wait for a signal")
    try:
        await asyncio.wait([stopped, attendant], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
    if attendant.done():
        attendant.result()
