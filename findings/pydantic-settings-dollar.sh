#!/usr/bin/env bash
# pydantic-settings 2.16.3 (python-dotenv 1.2.4): a secret with ${...} in it, in single quotes in a file for env_file.
# Expected: the value as it stands, since single quotes keep a shell from expanding it, and since the same text in
# the environment is kept.
# Seen: ${OTHER} is replaced by nothing, without a word.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" --quiet --disable-pip-version-check install pydantic-settings==2.16.3 pydantic==2.14.3 python-dotenv==1.2.4
cd "$work"
timeout 60 "$work/venv/bin/python" - <<'PY'
import os
from importlib.metadata import version
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

Path("settings").write_text("TRIED_KEY='one${OTHER}two'\n")


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file="settings")
    tried_key: str = ""


from_file = Settings().tried_key
os.environ["TRIED_KEY"] = "one${OTHER}two"
from_environment = Settings().tried_key
print("pydantic-settings", version("pydantic-settings"), "python-dotenv", version("python-dotenv"))
print("from the file:", from_file, "from the environment:", from_environment)
assert (from_file, from_environment) == ("onetwo", "one${OTHER}two")
PY
