"""Read the values of settings, and check them.

Each `to_…` takes a text from a file or the environment, or a value that is right already. It
raises `ValueError` for a wrong value.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from pgexec.settings import profiles
from pgexec.settings.keys import Keyring, parse_keyring
from pgexec.settings.sizes import parse_size
from pool.dependencies.requirements import Requirements, normalise

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_INDEX_URL = re.compile(r"https?://[^\s/]+(/\S*)?")
_NEXT_REQUIREMENT = re.compile(r",(?![^\[]*\])(?=\s*[A-Za-z0-9])")
"""The commas of `a>=1,<2,b[c,d]` that separate requirements."""
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_ORIGIN = re.compile(rf"https?://({_HOST.pattern}|\[[0-9a-f:.]+\])(:[1-9][0-9]{{0,4}})?")
_USUAL_PORTS = (":80", ":443")
"""Of http, and of https."""
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def to_size(value: object) -> object:
    """Read a size such as `256MiB`."""
    return parse_size(value) if isinstance(value, str) else value


def to_modules(value: object) -> object:
    """Read names of modules, separated by commas."""
    if not isinstance(value, str):
        return value
    names = tuple(filter(None, (name.strip() for name in value.split(","))))
    if not all(map(_MODULE.fullmatch, names)):
        raise ValueError("not a list of module names")
    return names


def to_starts(value: object) -> object:
    """Read a number, or an empty text, which means that the server chooses."""
    return None if value == "" else value


def to_network(value: object) -> object:
    """Refuse networks in which foreign code must not be."""
    # `host` and `container:…` would put foreign code into a namespace that is not its own.
    if not isinstance(value, str) or value == "host" or not _NETWORK.fullmatch(value):
        raise ValueError("not a network")
    return value


def to_networks(value: object) -> object:
    """Read addresses and networks, separated by commas."""
    if not isinstance(value, str):
        return value
    names = filter(None, (name.strip() for name in value.split(",")))
    return tuple(str(ipaddress.ip_network(name, strict=False)) for name in names)


def to_packages(value: object) -> object:
    """Read names of packages, separated by commas, and spell them in one way."""
    if not isinstance(value, str):
        return value
    names = tuple(filter(None, (name.strip() for name in value.split(","))))
    return frozenset(canonicalize_name(name, validate=True) for name in names)


def to_sets(value: object) -> object:
    """Read sets of requirements without markers, such as `requests;numpy>=2,<3,pandas[excel]`."""
    if not isinstance(value, str):
        return value
    sets = []
    for text in filter(None, map(str.strip, value.split(";"))):
        items = _NEXT_REQUIREMENT.split(text)
        if any(Requirement(item).url for item in items):
            raise ValueError("names an address")
        sets.append(normalise(items))
    return tuple(sets)


def to_index(value: object) -> object:
    """Read addresses of package indexes, separated by commas."""
    if not isinstance(value, str):
        return value
    urls = tuple(filter(None, (url.strip() for url in value.split(","))))
    if not all(map(_INDEX_URL.fullmatch, urls)):
        raise ValueError("not addresses of an index")
    return urls


def to_hosts(value: object) -> object:
    """Read host names, separated by commas."""
    if not isinstance(value, str):
        return value
    names = tuple(filter(None, (name.strip().lower() for name in value.split(","))))
    if not all(map(_HOST.fullmatch, names)):
        raise ValueError("not a list of names")
    return names


def to_origins(value: object) -> object:
    """Read origins of web pages, separated by commas, as browsers write them."""
    if not isinstance(value, str):
        return value
    origins = tuple(filter(None, (origin.strip().lower() for origin in value.split(","))))
    for origin in origins:
        usual = origin.endswith(_USUAL_PORTS[origin.partition(":")[0] == "https"])
        if usual or not _ORIGIN.fullmatch(origin):  # a browser never sends its scheme's own port
            raise ValueError("not a list of origins")
    return origins


def to_names(value: object) -> object:
    """Read names of API keys, with commas."""
    if not isinstance(value, str):
        return value
    return tuple(filter(None, (name.strip() for name in value.split(","))))


def to_keyring(value: object) -> object:
    """Read API keys."""
    return parse_keyring(value) if isinstance(value, str) else value


def to_certificates(value: object) -> object:
    """Refuse a file without CA certificates."""
    if isinstance(value, str) and value:
        try:
            if not Path(value).is_file():
                raise ValueError("not a file")
            Path(value).read_text(encoding="utf-8")
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=value)
        except OSError as error:  # ssl.SSLError, too
            raise ValueError("not certificates") from error
    return value


def to_profiles(value: object) -> object:
    """Read profiles."""
    return profiles.parse_profiles(value) if isinstance(value, str) else value


# `description` completes the sentence "PGEXEC_X must be …".
Seconds = Annotated[
    float,
    Field(
        gt=0,
        le=10**6,
        allow_inf_nan=False,
        description="a number of seconds above 0 and at most 1000000",
    ),
]
Delay = Annotated[
    float,
    Field(ge=0, le=10**6, allow_inf_nan=False, description="a number of seconds from 0 to 1000000"),
]
Count = Annotated[int, Field(ge=1, le=10**6, description="a whole number from 1 to 1000000")]
Size = Annotated[
    int,
    BeforeValidator(to_size),
    Field(ge=1, le=1 << 30, description="a size from 1 byte to 1GiB, such as 256MiB, 1MB or 64k"),
]
RunSeconds = Annotated[
    float,
    Field(ge=0.001, le=86400, allow_inf_nan=False, description="a number of seconds up to 86400"),
]
Memory = Annotated[
    int,
    BeforeValidator(to_size),
    Field(ge=16 << 20, le=1 << 44, description="a size of at least 16MiB, such as 256MiB"),
]
Processors = Annotated[
    float,
    Field(
        ge=0.01,
        le=4096,
        allow_inf_nan=False,
        description="a number of processors from 0.01 to 4096",
    ),
]
Processes = Annotated[int, Field(ge=8, le=1 << 22, description="a whole number from 8 to 4194304")]
Disk = Annotated[
    int,
    BeforeValidator(to_size),
    Field(ge=64 << 10, le=1 << 44, description="a size of at least 64KiB, such as 64MiB"),
]
CodeSize = Annotated[
    int,
    BeforeValidator(to_size),
    Field(ge=1, le=64 << 20, description="a size from 1 byte to 64MiB"),
]
StdinSize = Annotated[
    int,
    BeforeValidator(to_size),
    Field(ge=0, le=64 << 20, description="a size from 0 to 64MiB"),
]
FileCount = Annotated[int, Field(ge=0, le=500, description="a whole number from 0 to 500")]
FilesSize = Annotated[
    int,
    BeforeValidator(to_size),
    Field(ge=0, le=256 << 20, description="a size from 0 to 256MiB"),
]
Flag = Annotated[bool, Field(description="true or false")]
Text = Annotated[str, Field(description="text")]
ServerName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="empty or up to 64 letters, digits, dots, hyphens and underscores",
    ),
]
Keys = Annotated[
    Keyring,
    NoDecode,
    BeforeValidator(to_keyring),
    Field(description="empty, name:key pairs with commas, or file:PATH"),
]
Hosts = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(to_hosts),
    Field(description="a list of host names without ports, with commas"),
]
Origins = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(to_origins),
    Field(
        description="empty or exact origins of pages with commas, such as https://app.example.com "
        "(no path, no *, no port 80 or 443 of its own)"
    ),
]
Peers = Annotated[
    tuple[Literal["dify", "piston", "sandboxfusion"], ...],
    NoDecode,
    BeforeValidator(to_names),
    Field(description="empty or some of piston, sandboxfusion and dify, with commas"),
]
Names = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(to_names),
    Field(description="empty or names of API keys with commas"),
]
Modules = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(to_modules),
    Field(description="a list of module names with commas"),
]
Certificates = Annotated[
    str,
    BeforeValidator(to_certificates),
    Field(description="empty or a readable file of PEM certificates"),
]
Network = Annotated[
    str,
    BeforeValidator(to_network),
    Field(description="egress, none, or the name of a network (not host)"),
]
Networks = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(to_networks),
    Field(description="a list of addresses or networks with commas, such as 10.1.2.0/24"),
]
Packages = Annotated[
    frozenset[str],
    NoDecode,
    BeforeValidator(to_packages),
    Field(description="empty or names of packages with commas"),
]
Sets = Annotated[
    tuple[Requirements, ...],
    NoDecode,
    BeforeValidator(to_sets),
    Field(description="empty or sets of requirements, such as requests;numpy,pandas"),
]
Starts = Annotated[
    Annotated[int, Field(ge=1, le=1024)] | None,
    BeforeValidator(to_starts),
    Field(description="empty or a whole number from 1 to 1024"),
]
Runs = Annotated[
    Annotated[int, Field(ge=0, le=10**6)] | None,
    BeforeValidator(to_starts),
    Field(description="empty or a whole number from 0 to 1000000"),
]
Profiles = Annotated[
    dict[str, profiles.Fields],
    NoDecode,
    BeforeValidator(to_profiles),
    Field(description="empty, a JSON object of profiles, or file:PATH of a JSON or TOML file"),
]
