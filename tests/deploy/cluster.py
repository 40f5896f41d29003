"""As much of Kubernetes' API as kubectl needs to create what it is told to; nothing runs."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

KINDS = {
    "v1": {
        "Namespace": "namespaces",
        "Secret": "secrets",
        "Service": "services",
        "ConfigMap": "configmaps",
    },
    "apps/v1": {"Deployment": "deployments", "DaemonSet": "daemonsets"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
}
"""The resources of each version of a group."""
_ROOTS = {f"/{'apis' if '/' in version else 'api'}/{version}": version for version in KINDS}
_NOT_FOUND = {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
_PROTOBUF = b"k8s\0"


class Cluster:
    """Keeps what is created, by its path."""

    def __init__(self) -> None:
        self.created: dict[str, Any] = {}
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen; return a configuration by which kubectl comes here."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        here = {"name": "here", "cluster": {"server": url}}
        context = {"name": "here", "context": {"cluster": "here", "user": ""}}
        known = {"clusters": [here], "contexts": [context], "current-context": "here"}
        return json.dumps({"apiVersion": "v1", "kind": "Config", **known})

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        match request.method:
            case "POST":
                made = _document(request.path, body)
                self.created[f"{request.path}/{made['metadata']['name']}"] = made
                return web.json_response(made, status=201)
            case "PATCH":
                changed = self.created[request.path]
                changed["metadata"] |= json.loads(body)["metadata"]
                return web.json_response(changed)
        found = _discovery(request.path) or self.created.get(request.path)
        return web.json_response(found or _NOT_FOUND, status=200 if found else 404)


def _document(path: str, body: bytes) -> Any:
    """Return what is to be created; of what `kubectl create` sends, protobuf, the text alone."""
    if not body.startswith(_PROTOBUF):
        return json.loads(body)
    kinds = {plural: kind for of in KINDS.values() for kind, plural in of.items()}
    text = body.decode("utf-8", "replace")
    kind = kinds[path.rpartition("/")[2]]
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "pgexec"}, "sent": text}


def _discovery(path: str) -> Any:
    """Return what a cluster says of its own API, as far as kubectl asks, or `None`."""
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = [_group(version) for version in KINDS if "/" in version]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    if path == "/openapi/v3":
        return {"paths": {root[1:]: {"serverRelativeURL": f"{path}{root}"} for root in _ROOTS}}
    if version := _ROOTS.get(path):
        kinds = KINDS[version].items()
        resources = [_resource(kind, plural) for kind, plural in kinds]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
    if version := _ROOTS.get(path.removeprefix("/openapi/v3")):
        kinds = KINDS[version].items()
        paths = {f"/{plural}/{{name}}": _patch(version, kind) for kind, plural in kinds}
        return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": paths}
    return None


def _group(group_version: str) -> Any:
    group, _, version = group_version.rpartition("/")
    known = {"groupVersion": group_version, "version": version}
    return {"name": group, "versions": [known], "preferredVersion": known}


def _resource(kind: str, plural: str) -> Any:
    of_a_namespace = kind != "Namespace"
    known = {"name": plural, "singularName": "", "kind": kind, "namespaced": of_a_namespace}
    return {**known, "verbs": ["get", "create", "patch"]}


def _patch(group_version: str, kind: str) -> Any:
    """Describe a call that checks fields itself: else kubectl would want the whole schema."""
    group, _, version = group_version.rpartition("/")
    known = {"group": group, "version": version, "kind": kind}
    parameters = [{"name": "fieldValidation", "in": "query"}]
    call = {"parameters": parameters, "responses": {}, "x-kubernetes-group-version-kind": known}
    return {"patch": call}
