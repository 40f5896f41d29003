"""The documents that containers are created from: what each kind may use, and what it lacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import pytest

from pool.engine.sources import runner_files
from pool.engine.spec import (
    LABEL_ROLE,
    LAYERS_DIR,
    ROLE_VOLUME,
    RUNNER_DIR,
    ContainerSpec,
    Limits,
    create_document,
    installer_document,
    preparer_document,
    volume_document,
)

MIB = 1 << 20
SPEC = ContainerSpec(
    "image", prepared=True, network="net", layers="volume", preload="layer", guard={"blocked": []}
)


def host(document: dict[str, object]) -> Any:
    return document["HostConfig"]


def test_a_sandbox_gets_the_memory_limit_and_no_swap() -> None:
    config = host(create_document(SPEC, labels={}, sequence=0))
    assert (config["Memory"], config["MemorySwap"]) == (256 * MIB, 256 * MIB)
    assert config["PidsLimit"] == 65
    assert [mount["ReadOnly"] for mount in config["Mounts"]] == [True]


def test_what_an_installer_writes_counts_on_top_of_its_memory_limit() -> None:
    limits = Limits(memory_bytes=100 * MIB, disk_bytes=7 * MIB)
    config = host(installer_document(SPEC, limits, network="other", guard=None, labels={}))
    assert (config["Memory"], config["MemorySwap"]) == (107 * MIB, 107 * MIB)
    assert f"size={7 * MIB}," in config["Tmpfs"][LAYERS_DIR]


@pytest.mark.parametrize(("cpus", "count"), [(0.1, "1"), (1.0, "1"), (2.5, "3"), (64.0, "64")])
def test_libraries_are_told_how_many_processors_there_are(cpus: float, count: str) -> None:
    document = create_document(replace(SPEC, limits=Limits(cpus=cpus)), labels={}, sequence=0)
    told: list[str] = document["Env"]  # type: ignore[assignment]
    for name in ("PYTHON_CPU_COUNT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        assert f"{name}={count}" in told


def test_an_environment_of_its_own_comes_before_what_is_told() -> None:
    spec = replace(SPEC, environment={"OMP_NUM_THREADS": "7", "USER": "somebody"})
    told: list[str] = create_document(spec, labels={}, sequence=0)["Env"]  # type: ignore[assignment]
    assert {"OMP_NUM_THREADS=7", "USER=somebody", "LOGNAME=sandbox"} <= set(told)


def test_shared_memory_has_the_size_of_any_other_directory() -> None:
    config = host(create_document(SPEC, labels={}, sequence=0))
    assert config["Tmpfs"]["/dev/shm"] == config["Tmpfs"]["/tmp"].replace("exec", "noexec")


def test_small_buffers_are_the_snippets_and_not_the_installers() -> None:
    installer = installer_document(SPEC, Limits(), network="net", guard=None, labels={})
    assert "net.ipv4.tcp_rmem" in host(create_document(SPEC, labels={}, sequence=0))["Sysctls"]
    assert "net.ipv4.tcp_rmem" not in host(installer)["Sysctls"]
    assert host(installer)["Sysctls"]["kernel.shmmni"] == "0"


def test_an_installer_has_no_volume_and_its_own_network() -> None:
    document = installer_document(SPEC, Limits(), network="other", guard=None, labels={})
    assert "Mounts" not in host(document)
    assert host(document)["NetworkMode"] == "other"
    assert "NET_ADMIN" not in host(document)["CapAdd"]
    assert '"preload":""' in str(document["Env"])


def test_only_the_server_of_the_volume_may_write_to_it_and_it_can_reach_nothing() -> None:
    document = volume_document(SPEC, "volume", command=("serve",), labels={"label": "1"})
    config = host(document)
    assert [mount["ReadOnly"] for mount in config["Mounts"]] == [False]
    assert (config["NetworkMode"], document["NetworkDisabled"]) == ("none", True)
    assert (config["CapDrop"], config.get("CapAdd")) == (["ALL"], None)
    assert document["Labels"] == {"label": "1", LABEL_ROLE: ROLE_VOLUME}


def test_every_container_ends_with_its_stdin() -> None:
    for document in (
        create_document(SPEC, labels={}, sequence=0),
        installer_document(SPEC, Limits(), network="net", guard=None, labels={}),
        volume_document(SPEC, "volume", command=("serve",), labels={}),
        preparer_document("image", command=("make",), labels={}),
    ):
        assert (document["OpenStdin"], document["StdinOnce"]) == (True, True)
        assert host(document)["AutoRemove"] is True


@pytest.mark.parametrize(
    ("machine", "named"),
    [
        ("x86_64", ["SCMP_ARCH_X86_64"]),
        ("amd64", ["SCMP_ARCH_X86_64"]),
        ("arm64", ["SCMP_ARCH_AARCH64"]),
        ("s390x", None),
    ],
)
def test_the_filter_names_the_engines_machine_and_no_other_table(
    machine: str, named: list[str] | None
) -> None:
    options = host(create_document(replace(SPEC, machine=machine), labels={}, sequence=0))
    (profile,) = [one for one in options["SecurityOpt"] if one.startswith("seccomp=")]
    assert json.loads(profile.removeprefix("seccomp=")).get("architectures") == named


def test_the_runners_files_fit_into_their_tmpfs_whatever_the_page_size() -> None:
    """A tmpfs gives each file whole pages: of 64 KiB on some machines."""
    config = host(create_document(replace(SPEC, prepared=False), labels={}, sequence=0))
    options = dict(one.split("=") for one in config["Tmpfs"][RUNNER_DIR].split(",") if "=" in one)
    page, size = 64 << 10, int(options["size"].removesuffix("m")) << 20
    paths = runner_files()
    pages = sum(-(-len(text.encode()) // page) for text in paths.values())
    folders = {str(folder) for path in paths for folder in PurePath(path).parents}
    assert pages * page <= size
    assert len(paths) + len(folders) <= int(options["nr_inodes"])
