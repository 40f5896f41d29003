#!/bin/sh
# A pipeline in which the untrusted step runs on a server: text in by the pipe, text out by the
# pipe, its exit status is its own, and a file that it writes lands here.
#
#     PGEXEC_URL=http://localhost:8080 examples/pipeline.sh <words.txt
set -eu

tr '[:upper:]' '[:lower:]' |
  pgexec run "$(dirname "$0")/count.py" -c report.json -- 2 |
  sort
