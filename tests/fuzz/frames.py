"""Coverage-guided fuzzing of what reads frames: `make fuzz`, or this file with a target's name.

`codec` feeds bytes to the decoders of both ends, `container` lets them be what a runner says to
the server. Whatever follows the name is libFuzzer's, such as `-max_total_time=60`. An input that
breaks something is left in the working directory.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pool.container", "pool.inside.protocol"]):
    from pool.inside import protocol
    from pool.inside.protocol import Kind, encode
    from tests.unit import test_hostile_runner as hostile

MAX_PAYLOAD = 1 << 12
ENDS = ("end", "stall", "error", "write error")


def fuzz_codec(data: bytes) -> None:
    """Hold the codec to its promise: frames that mean what was sent, or a `FrameError`."""
    decoder = protocol.Decoder(MAX_PAYLOAD)
    size = data[0] + 1 if data else 1
    frames = []
    try:
        for start in range(1, len(data), size):
            for kind, payload in decoder.feed(data[start : start + size]):
                frames.append(encode(kind, payload))
                decode(kind, payload)
            assert decoder.pending < protocol.HEADER.size + MAX_PAYLOAD
    except protocol.FrameError:
        return
    assert b"".join(frames) == data[1 : len(data) - decoder.pending] or not data


def decode(kind: Kind, payload: bytes) -> None:
    """Read what a frame carries; what is written again reads the same."""
    if kind is Kind.EXIT:
        ending = protocol.decode_exit(payload)
        again = protocol.encode_exit(ending)[protocol.HEADER.size :]
        assert protocol.decode_exit(again) == ending
    elif kind is Kind.JOB:
        protocol.decode_job(payload)


def fuzz_container(data: bytes) -> None:
    """Be the runner: what of the bytes comes before the job, in how many pieces, and the end."""
    provider = atheris.FuzzedDataProvider(data)
    end = ENDS[provider.ConsumeIntInRange(0, len(ENDS) - 1)]
    ready = [hostile.READY] if provider.ConsumeBool() else []
    size = provider.ConsumeIntInRange(1, 64)
    before = pieces(provider.ConsumeBytes(provider.ConsumeIntInRange(0, 64)), size)
    after = pieces(provider.ConsumeBytes(provider.remaining_bytes()), size)
    hostile.in_virtual_time(hostile.use(hostile.Stream([*ready, *before], after, end)))


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut into pieces of one size."""
    return [data[start:stop] for start, stop in pairwise([*range(0, len(data), size), len(data)])]


def seeds() -> list[bytes]:
    """Return what honest runners say, for a start."""
    clean = encode(Kind.CLEAN, b"1 ms")
    run = encode(Kind.STDOUT, b"out") + encode(Kind.STDERR, b"err") + hostile.exit_of(1) + clean
    return [b"\xff" + said for said in (hostile.READY, run, run * 2, hostile.READY + run)]


TARGETS = {"codec": fuzz_codec, "container": fuzz_container}


def main() -> None:
    """Fuzz the target that the command line names, until libFuzzer has had enough."""
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="pgexec-fuzz-") as directory:
        for number, seed in enumerate(seeds()):
            (Path(directory) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, directory], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
