"""Turn a job into the frame that asks a runner for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool.inside.protocol import FILE, SHOWN_RESERVE_BYTES, JobHeader, Step, encode_job

if TYPE_CHECKING:
    from pool.job import InputFile, Job


def encode_request(job: Job, run: int) -> tuple[bytes, list[bytes]]:
    """Return the JOB frame of a run, and what must be sent before each of its files' contents.

    `run` is the run's number in its container.
    """
    layer, strings, collect = job.layer.encode(), _strings(job), _collect(job)
    heads = [_head(file) for file in job.files]
    header = JobHeader(
        run,
        max(1, round(job.timeout_s * 1000)),
        job.output_limit_bytes,
        len(job.code),
        len(job.stdin),
        job.last,
        len(layer),
        len(job.args),
        len(strings),
        0 if job.cpu_time_s is None else max(1, round(job.cpu_time_s * 1000)),
        job.memory_limit_bytes or 0,
        sum(map(len, heads)) + sum(len(file.content) for file in job.files),
        len(collect),
        job.collect_limit_bytes,
        job.collect_max,
        job.step,
        shown_limit_bytes(job) if job.step is Step.CELL else 0,
    )
    return encode_job(header, layer, job.code, job.stdin, strings, collect), heads


def shown_limit_bytes(job: Job) -> int:
    """Return how many bytes a cell may show: its value, its rich forms, and heads of both."""
    return job.shown_limit_bytes + job.output_limit_bytes + SHOWN_RESERVE_BYTES


def _strings(job: Job) -> bytes:
    """Return the arguments and variables of a job as a JOB has them."""
    if not job.args and not job.env:
        return b""
    given = [*job.args, *(b"%b=%b" % variable for variable in job.env.items())]
    return b"".join(b"%b\0" % one for one in given)


def _collect(job: Job) -> bytes:
    """Return the part of a JOB that asks for files."""
    if not job.collect:
        return b""
    names = "\0".join(file.name for file in job.files)
    return ("\0".join(job.collect) + "\0\0" + names).encode()


def _head(file: InputFile) -> bytes:
    name = file.name.encode()
    return FILE.pack(len(name), len(file.content)) + name
