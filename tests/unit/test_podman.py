"""Podman, by a fake that answers as Podman 5.8 and 4.3 do where they differ from Docker."""

from __future__ import annotations

import io
import json
import tarfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from deploy.setup import engine_api
from pool.engine import image, podman
from pool.engine.docker import DockerEngine
from pool.engine.masked import MASKED_PATHS
from pool.engine.spec import ContainerSpec, create_document
from pool.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LABELS = {"pgexec.instance": "ours"}
DOCUMENT = create_document(ContainerSpec("python", prepared=True), labels=LABELS, sequence=0)
MOUNTPOINT = "/var/lib/containers/storage/volumes/pgexec-seccomp/_data"


class Podman:
    """Creates containers and images, and refuses what Podman refuses."""

    def __init__(self) -> None:
        self.images = {"sha256:old": "old:1", "sha256:new": "docker.io/library/prepared:new"}
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self.refuses_lists = False
        self.headers = {podman.SIGN: "5.8.6"}

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path.partition("/v1.41/")[2]
        body = await request.read()
        status, document = self._answer(request.method, path, body)
        return web.json_response(document, status=status, headers=self.headers)

    def _answer(  # noqa: C901, PLR0911 - one for each call
        self, method: str, path: str, body: bytes
    ) -> tuple[int, object]:
        match method, path.split("/"):
            case "GET", ["version"]:
                return 200, {"Version": "5.8.6", "Arch": "amd64"}
            case "GET", ["images", "json"]:
                # In the order of their making, 100 s apart.
                listed = [
                    {"Id": name, "RepoTags": [tag], "Created": number * 100}
                    for number, (name, tag) in enumerate(self.images.items())
                ]
                return (500, {"message": "no"}) if self.refuses_lists else (200, listed)
            case "GET", ["images", name, "json"]:
                found = [key for key, tag in self.images.items() if tag.endswith(f"/{name}")]
                about = {"Id": found[0], "Architecture": "amd64"} if found else {}
                return (200, about) if found else (404, {"message": "no such image"})
            case "DELETE", ["images", name]:
                del self.images[name]
                return 200, []
            case "POST", ["commit"]:
                return (200, {"Id": "1"}) if body else (500, {"message": "Decode(): EOF"})
            case "POST", ["volumes", "create"]:
                return 201, {"Name": "pgexec-seccomp", "Mountpoint": MOUNTPOINT}
            case "PUT", ["containers", _, "archive"]:
                with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                    for entry in archive:
                        file = archive.extractfile(entry)
                        self.files[f"{MOUNTPOINT}/{entry.name}"] = file.read() if file else b""
                return 200, {}
            case "POST", ["containers", "create"]:
                return self._create(json.loads(body))
            case "DELETE", ["containers", name]:
                self.removed.append(name)
                return 200, {}
        return 404, {"message": path}

    def _create(self, document: dict[str, Any]) -> tuple[int, object]:
        for option in document["HostConfig"].get("SecurityOpt", ()):
            path = option.partition("seccomp=")[2]
            if path and path not in self.files:
                return 500, {"message": f"opening seccomp profile failed: open {path}"}
        if "nr_inodes" in str(document["HostConfig"].get("Tmpfs")):
            return 500, {"message": "unknown mount option nr_inodes"}
        self.created.append(document)
        return 201, {"Id": str(len(self.created))}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Podman, DockerEngine]]:
    fake = Podman()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "podman.sock")).start()
    engine = DockerEngine(f"unix://{tmp_path}/podman.sock", streams=1)
    engine.docker.api_version = "v1.41"
    yield fake, engine
    await engine.close()
    await runner.cleanup()


async def create(engine: DockerEngine) -> None:
    await engine._create(DOCUMENT)


async def test_the_seccomp_profile_reaches_the_engines_machine_before_the_first_container(
    served: tuple[Podman, DockerEngine],
) -> None:
    fake, engine = served
    await engine.image_id("python")
    await create(engine)
    await create(engine)
    porter, *sandboxes = fake.created
    path, text = next(iter(fake.files.items()))
    assert f"seccomp={text.decode()}" in DOCUMENT["HostConfig"]["SecurityOpt"]  # type: ignore[index]
    assert [f"seccomp={path}" in one["HostConfig"]["SecurityOpt"] for one in sandboxes] == [
        True
    ] * 2
    assert "Tmpfs" not in porter["HostConfig"]
    assert porter["Labels"] == LABELS
    assert fake.removed == ["1"]


async def test_an_engine_that_is_known_by_its_refusal_only_is_asked_again(
    served: tuple[Podman, DockerEngine],
) -> None:
    fake, engine = served
    await create(engine)
    assert len(fake.created) == 2


async def test_a_profile_whose_volume_somebody_removed_is_put_there_again(
    served: tuple[Podman, DockerEngine],
) -> None:
    fake, engine = served
    await engine.image_id("python")
    await create(engine)
    fake.files.clear()
    with pytest.raises(EngineError, match="opening seccomp profile failed"):
        await create(engine)
    await create(engine)


async def test_podman_is_told_of_masks_and_of_places_that_it_would_leave_writable(
    served: tuple[Podman, DockerEngine],
) -> None:
    fake, engine = served
    await engine.image_id("python")
    await create(engine)
    host = fake.created[-1]["HostConfig"]
    (mask,) = [one for one in host["SecurityOpt"] if one.startswith("mask=")]
    told = mask.removeprefix("mask=").split(":")
    assert told == [path for path in MASKED_PATHS if ":" not in path]
    assert [host["Tmpfs"][path].split(",")[0] for path in ("/run", "/var/tmp")] == ["ro", "ro"]
    assert host["Tmpfs"]["/tmp"].startswith("rw,")


@pytest.mark.parametrize(
    ("replaced_before", "left"),
    [(100, "abc"), (101, "bc"), (201, "bc"), (301, "bc")],
)
async def test_an_image_goes_some_time_after_another_replaced_it_but_not_the_one_in_use(
    served: tuple[Podman, DockerEngine], replaced_before: float, left: str
) -> None:
    fake, engine = served
    fake.images = {one: f"docker.io/library/prepared:{one}" for one in "abc"}
    await engine.remove_images("label", keep="prepared:b", replaced_before=replaced_before)
    assert "".join(fake.images) == left


async def test_a_commit_has_a_body(served: tuple[Podman, DockerEngine]) -> None:
    _, engine = served
    await engine.commit("1", "prepared", "new", labels={})


async def test_a_clean_up_that_fails_does_not_lose_the_image(
    served: tuple[Podman, DockerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, engine = served

    async def derive(_engine: object, _base: str, tag: str, *_: object) -> None:
        fake.images["sha256:made"] = f"localhost/{image.REPOSITORY}:{tag}"

    monkeypatch.setattr(image, "_derive", derive)
    fake.images["sha256:base"] = "docker.io/library/python"
    fake.refuses_lists = True
    made = await image.prepare(engine, "python", directories=())
    assert made.prepared
    assert "sha256:made" in fake.images


async def test_docker_is_told_what_the_spec_says(served: tuple[Podman, DockerEngine]) -> None:
    fake, engine = served
    fake.headers = {}
    await engine.image_id("python")
    with pytest.raises(EngineError):  # as the fake refuses it, which stays Podman
        await create(engine)
    assert fake.files == {}


def test_an_imported_image_gets_its_tag_where_the_engine_ignores_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Podman 4.3 imports an image, and leaves it without a name."""
    asked: list[str] = []

    class Answer:
        status = 201

        def read(self) -> bytes:
            return b""

    class Connection:
        def request(self, method: str, path: str) -> None:
            asked.append(f"{method} {path}")

        def getresponse(self) -> Answer:
            return Answer()

    monkeypatch.setattr(engine_api, "create", lambda *_args, **_more: "sha256:made")
    monkeypatch.setattr(engine_api, "has", lambda _image: False)
    monkeypatch.setattr(engine_api, "find_engine", lambda: "unix:///nowhere")
    monkeypatch.setattr(engine_api, "machine", lambda: "amd64")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    monkeypatch.setattr(engine_api, "connect", lambda *_: Connection())
    engine_api.import_image("python:alpine", [])
    assert asked == ["POST /images/sha256:made/tag?repo=python&tag=alpine"]
