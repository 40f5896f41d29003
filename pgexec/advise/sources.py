"""The sources of evidence: a server's metrics, a Prometheus, a recorded trace."""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from prometheus_client.parser import text_string_to_metric_families

from pgexec.advise.advice import Counts, Evidence
from pgexec.advise.replay import Costs, replay
from pgexec.advise.traces import TraceError, read_trace
from pgexec.settings.pool import pool_config
from pgexec.settings.profiles import DEFAULT
from pool.sizing.recycling import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pgexec.advise.traces import Request
    from pgexec.settings import Settings

    Find = Callable[[str, str], dict[str, float]]
    """Returns the series of a name, summed by the values of one label ("" for none)."""

FETCH_S = 10.0
MOST_REQUESTS = 100_000
"""Only the newest requests of a trace are replayed, so many, in some ten seconds."""
START_S = 0.3
"""The assumed seconds of a container's start, if the evidence does not tell them."""


BY_POOL = ("profile", "language")
OWN = {DEFAULT, None}
"""The labels of the default pool, which the settings describe. Profiles have their own sizes."""
_WINDOW = re.compile(r"(?=[1-9])([0-9]+(ms|[smhdwy]))+")
_URL_WITHOUT_SCHEME = re.compile(r"(\w+://|[\w.-]+:\d+(/|$))")


class SourceError(Exception):
    """The source gives no evidence; the text gives the reason."""


def evidence_of(source: str, window: str, settings: Settings, key: str = "") -> Evidence:
    """Get the evidence from a URL, a file, or standard input (`-`).

    A URL whose path ends in /metrics belongs to a server; another URL belongs to a Prometheus. The
    Prometheus is asked about the last `window`, a duration in its own notation, such as `7d`. Only
    a server gets `key`, as a bearer token. A trace is replayed with the settings of this machine.
    Raises `SourceError`.
    """
    if not _WINDOW.fullmatch(window):
        raise SourceError(
            f"--window is {window!r}, but must be a number with its unit, such as 30m, 12h or 7d"
        )
    try:
        if source.startswith(("http://", "https://")):
            if urlsplit(source).path.endswith("/metrics"):
                return of_metrics(in_text(_fetch(source, key)))
            return of_metrics(in_prometheus(source, window))
        if source == "-":
            return of_metrics(in_text(sys.stdin.read()))
        if _URL_WITHOUT_SCHEME.match(source) and not Path(source).exists():
            raise SourceError(f"{source} is no file; a URL begins with http://")
        path = Path(source)
        if path.is_file() and path.read_bytes()[:1] == b"#":
            return of_metrics(in_text(path.read_text(encoding="utf-8")))
        return of_trace(read_trace(path), settings)
    except TraceError as error:
        raise SourceError(str(error)) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{source} gives no evidence: it is no text") from error
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{source} gives no evidence: {error}") from error


# --- metrics --------------------------------------------------------------------------------------


def of_metrics(find: Find) -> Evidence:
    """Return the evidence in a server's series. Raises `SourceError`."""
    settings = find("pgexec_setting", "name")
    if not settings:
        raise SourceError("there are no series of pgexec, or none yet")
    leases = find("pgexec_leases_total", "source")
    runs = find("pgexec_runs_total", "status")
    served = find("pgexec_lease_wait_seconds_count", "").get("", 0.0)
    refused = sum(find("pgexec_rejections_total", "reason").values())
    return Evidence(
        min_idle=int(settings["pool_min_idle"]),
        max_containers=int(settings["pool_max_containers"]),
        autoscale=bool(settings["pool_autoscale"]),
        max_uses=int(settings["max_uses"]),
        memory_limit=int(settings["memory_limit"]),
        leases=served,
        waited=leases.get("waited", 0.0) + leases.get("started", 0.0),
        refused=refused,
        mean_wait_s=_mean(find, "pgexec_lease_wait_seconds"),
        start_s=_mean(find, "pgexec_container_start_seconds") or START_S,
        held_s=_mean(find, "pgexec_run_duration_seconds"),
        worn_out=find("pgexec_container_destroyed_total", "reason").get("max_uses", 0.0),
        runs=sum(runs.values()),
        out_of_memory=runs.get("memory_limit", 0.0),
        levels=_counts(find("pgexec_demand_containers_bucket", "le")),
        rises=_counts(find("pgexec_demand_rise_containers_bucket", "le")),
        peaks=_counts(find("pgexec_run_peak_memory_bytes_bucket", "le")),
    )


def in_text(text: str) -> Find:
    """Return a `Find` that looks series up in a text of Prometheus' format."""
    samples = [
        sample for family in text_string_to_metric_families(text) for sample in family.samples
    ]

    def find(name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for sample in samples:
            if sample.name == name and OWN.issuperset(map(sample.labels.get, BY_POOL)):
                found[sample.labels.get(label, "")] += sample.value
        return dict(found)

    return find


def in_prometheus(url: str, window: str) -> Find:
    """Return a `Find` that asks a Prometheus by its HTTP API: the increase during `window`."""

    def find(name: str, label: str) -> dict[str, float]:
        if name == "pgexec_setting":
            query = f"max by (name) (last_over_time({name}[{window}]))"
        else:
            own = ", ".join(f'{one}=~"|{DEFAULT}"' for one in BY_POOL)
            query = f"sum by ({label}) (increase({name}{{{own}}}[{window}]))"
        api = f"{url.rstrip('/')}/api/v1/query"
        answer = _fetch(f"{api}?{urlencode({'query': query})}", name=api)
        try:
            result = json.loads(answer)["data"]["result"]
            return {one["metric"].get(label, ""): float(one["value"][1]) for one in result}
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{api} does not answer as a Prometheus does") from error

    return find


def _mean(find: Find, name: str) -> float:
    count = find(f"{name}_count", "").get("", 0.0)
    return find(f"{name}_sum", "").get("", 0.0) / count if count else 0.0


def _counts(buckets: Mapping[str, float]) -> Counts:
    """Turn cumulated buckets into counts by upper bound."""
    counts, below = {}, 0.0
    for bound in sorted(buckets, key=float):
        counts[float(bound)] = max(0.0, buckets[bound] - below)
        below = buckets[bound]
    return counts


def _fetch(url: str, key: str = "", name: str = "") -> str:
    """Get a text. Errors name the source `name`, or else the URL, and never the `key`."""
    name = name or url
    request = urllib.request.Request(url)  # noqa: S310  # see `evidence_of`
    if not (key.isascii() and key.isprintable()):
        raise SourceError("the API key has characters that no key of a server has")
    if key:  # a redirect must not carry it to another server
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=FETCH_S) as answer:  # noqa: S310
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        body = error.read(300).decode(errors="replace").strip()
        raise SourceError(f"{name} answers {error.code}: {body}") from error
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise SourceError(f"{name} does not answer: {reason}") from error


# --- a trace --------------------------------------------------------------------------------------


def of_trace(requests: Sequence[Request], settings: Settings) -> Evidence:
    """Return the evidence of a replay: the newest requests of a trace, with these settings."""
    requests = requests[-MOST_REQUESTS:]
    found = replay(requests, pool_config(settings), Costs(start_s=START_S))
    outcomes = Counter(one.outcome for one in requests)
    peaks = Counter(float(one.peak_bytes) for one in requests if one.peak_bytes)
    return Evidence(
        min_idle=settings.pool_min_idle,
        max_containers=settings.pool_max_containers,
        autoscale=settings.pool_autoscale,
        max_uses=settings.max_uses,
        memory_limit=settings.memory_limit,
        leases=found.requests,
        waited=found.cold,
        refused=found.refused,
        mean_wait_s=found.mean_wait_s,
        start_s=START_S,
        held_s=sum(one.held_s for one in requests) / len(requests),
        worn_out=found.worn_out,
        runs=len(requests),
        out_of_memory=outcomes[Outcome.MEMORY_LIMIT],
        levels=dict(enumerate(map(float, found.levels))),
        rises=dict(enumerate(map(float, found.rises))),
        peaks=dict(peaks),
    )
