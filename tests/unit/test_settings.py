"""Settings: files and environment in their order, and one sentence for what is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from pgexec.settings import Settings, SettingsError, load_settings
from pgexec.settings.pool import pool_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory whose empty files hide the repository's, without our variables."""
    for name in list(os.environ):
        if name.upper().startswith("PGEXEC_"):
            monkeypatch.delenv(name)
    (tmp_path / "settings.env").write_text("")
    (tmp_path / "settings.local.env").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_the_defaults_in_code_are_those_of_the_file(directory: Path) -> None:
    (directory / "settings.env").write_text((ROOT / "settings.env").read_text())
    settings, warnings = load_settings()
    assert settings == Settings.of()
    assert warnings == []


def test_the_file_names_every_setting_and_no_other() -> None:
    names = [name.removeprefix("PGEXEC_").lower() for name in dotenv_values(ROOT / "settings.env")]
    assert names == list(Settings.model_fields)


def test_the_defaults_are_those_of_the_design() -> None:
    settings = Settings.of()
    assert (settings.host, settings.port, settings.image) == ("0.0.0.0", 8080, "python:alpine")
    assert (settings.run_timeout_s, settings.cpus, settings.pids_limit) == (30, 1, 64)
    assert (settings.memory_limit, settings.disk_limit) == (256 << 20, 64 << 20)
    assert (settings.pool_min_idle, settings.pool_max_containers) == (4, 16)
    assert (settings.pool_max_waiting, settings.lease_timeout_s) == (256, 10)
    assert settings.pool_autoscale
    assert settings.tenant_max_running is None
    assert settings.canary_interval_s == 900
    assert (settings.max_uses, settings.max_age_s, settings.idle_timeout_s) == (1000, 3600, 300)
    assert settings.starts_at_once == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("said", "wanted"), [("", 1), ("max_uses", 2)])
def test_single_use_starts_twice_as_many_at_once(said: str, wanted: int) -> None:
    cores = len(os.sched_getaffinity(0))
    fields = {said: 1} if said else {}
    assert Settings.of(**fields).starts_at_once == wanted * cores
    assert Settings.of(**fields, start_concurrency=7).starts_at_once == 7
    profile = {"single": {"max_uses": 1}, "many": {"max_uses": 9}}
    languages = Settings.of(**fields, profiles=profile).by_language
    assert languages["single"].settings.starts_at_once == 2 * cores
    assert languages["many"].settings.starts_at_once == cores


def test_missing_files_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgexec.settings.sources.FILES", ("no-such-file",))
    assert load_settings()[0] == Settings.of()


def test_files_beside_the_package_serve_where_the_directory_has_none(directory: Path) -> None:
    (directory / "settings.env").unlink()
    assert load_settings()[0] == Settings.of()


def test_local_wins_over_file_and_environment_over_both(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "settings.env").write_text("PGEXEC_PORT=1\nPGEXEC_CPUS=1\nPGEXEC_MAX_USES=1\n")
    (directory / "settings.local.env").write_text("PGEXEC_CPUS=2\nPGEXEC_MAX_USES=2\n")
    monkeypatch.setenv("PGEXEC_MAX_USES", "3")
    settings, _ = load_settings()
    assert (settings.port, settings.cpus, settings.max_uses) == (1, 2, 3)


def test_an_empty_value_in_a_later_place_is_a_value(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "settings.local.env").write_text("PGEXEC_RUNTIME=runsc\n")
    monkeypatch.setenv("PGEXEC_RUNTIME", "")
    assert load_settings()[0].runtime == ""


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.of().port = 1


@pytest.mark.parametrize(
    ("text", "size"), [("64k", 64 << 10), ("1GB", 10**9), ("1 MiB", 1 << 20), ("4096", 4096)]
)
def test_sizes_take_units(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("PGEXEC_OUTPUT_LIMIT", text)
    assert load_settings()[0].output_limit == size


def test_lists_take_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGEXEC_PREIMPORT", " json, os.path ,")
    assert load_settings()[0].preimport == ("json", "os.path")


def test_names_of_hosts_are_compared_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGEXEC_BROWSER_HOSTS", "Run.example.com, box.lan")
    assert load_settings()[0].browser_hosts == ("run.example.com", "box.lan")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGEXEC_PORT", "http"),
        ("PGEXEC_PORT", "65536"),
        ("PGEXEC_PORT", ""),
        ("PGEXEC_RUN_TIMEOUT_S", "0"),
        ("PGEXEC_RUN_TIMEOUT_S", "-1"),
        ("PGEXEC_RUN_TIMEOUT_S", "nan"),
        ("PGEXEC_RUN_TIMEOUT_S", "inf"),
        ("PGEXEC_LEASE_TIMEOUT_S", "soon"),
        ("PGEXEC_MEMORY_LIMIT", "12X"),
        ("PGEXEC_MEMORY_LIMIT", "1k"),
        ("PGEXEC_CODE_LIMIT", "1TB"),
        ("PGEXEC_CPUS", "0"),
        ("PGEXEC_MAX_USES", "1.5"),
        ("PGEXEC_TENANT_MAX_RUNNING", "-1"),
        ("PGEXEC_CANARY_INTERVAL_S", "-1"),
        ("PGEXEC_START_CONCURRENCY", "0"),
        ("PGEXEC_NETWORK", "host"),
        ("PGEXEC_NETWORK", "container:db"),
        ("PGEXEC_NETWORK", ""),
        ("PGEXEC_IMAGE", ""),
        ("PGEXEC_ROOT_DIR", "code"),
        ("PGEXEC_ROOT_DIR", "/"),
        ("PGEXEC_ROOT_DIR", "/home/../etc"),
        ("PGEXEC_ROOT_DIR", "/tmp"),
        ("PGEXEC_ROOT_DIR", "/tmp/code"),
        ("PGEXEC_ROOT_DIR", "/dev/shm/code"),
        ("PGEXEC_ROOT_DIR", "/opt"),
        ("PGEXEC_ROOT_DIR", "/opt/pgexec/code"),
        ("PGEXEC_ROOT_DIR", "/opt/layers"),
        ("PGEXEC_ROOT_DIR", "/usr"),
        ("PGEXEC_ROOT_DIR", "/proc/1"),
        ("PGEXEC_CODE_FILE_NAME", "../Main"),
        ("PGEXEC_PREIMPORT", "json;os"),
        ("PGEXEC_CA_BUNDLE", "/no/such/file"),
        ("PGEXEC_CA_BUNDLE", "/etc"),
        ("PGEXEC_CA_BUNDLE", "/dev/null"),
        ("PGEXEC_CA_BUNDLE", sys.executable),
        ("PGEXEC_CA_BUNDLE", __file__),
        ("PGEXEC_METRICS_OPEN", "perhaps"),
        ("PGEXEC_SERVER_NAME", "a name"),
        ("PGEXEC_SERVER_NAME", "one\nEvil: yes"),
        ("PGEXEC_SERVER_NAME", "x" * 65),
        ("PGEXEC_DRAIN_DELAY_S", "-1"),
        ("PGEXEC_DEPENDENCY_NETWORK", "host"),
        ("PGEXEC_DEPENDENCY_ALLOW", "requests>=2"),
        ("PGEXEC_DEPENDENCY_DENY", "../x"),
        ("PGEXEC_DEPENDENCY_SIZE_LIMIT", "1k"),
        ("PGEXEC_DEPENDENCY_CACHE_LIMIT", "much"),
        ("PGEXEC_DEPENDENCY_FAILURE_TTL_S", "-1"),
        ("PGEXEC_DEPENDENCY_PRELOAD", "requests;-e ."),
        ("PGEXEC_DEPENDENCY_PRELOAD", "x @ http://evil/x.whl"),
        ("PGEXEC_DEPENDENCY_VOLUME", "/var/lib"),
        ("PGEXEC_PAGE", "perhaps"),
        ("PGEXEC_PLAYGROUND", "perhaps"),
        ("PGEXEC_BROWSER_HOSTS", "http://run.example.com"),
        ("PGEXEC_COMPAT", "judge0"),
        ("PGEXEC_CORS_ORIGINS", "*"),
        ("PGEXEC_CORS_ORIGINS", "null"),
        ("PGEXEC_CORS_ORIGINS", "app.example.com"),
        ("PGEXEC_CORS_ORIGINS", "https://app.example.com/"),
        ("PGEXEC_CORS_ORIGINS", "https://*.example.com"),
        ("PGEXEC_CORS_ORIGINS", "https://app.example.com:443"),
        ("PGEXEC_BROWSER_HOSTS", "run.example.com:8080"),
        ("PGEXEC_LOG_LEVEL", "loud"),
        ("PGEXEC_DOCKER_HOST", "somewhere"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any
) -> None:
    sentence = refusal(name, value, monkeypatch)
    assert sentence.startswith(f"{name} is {value!r}, but must be ")


def test_settings_must_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = refusal("PGEXEC_POOL_MIN_IDLE", "17", monkeypatch)
    assert sentence == (
        "PGEXEC_POOL_MIN_IDLE is 17, but must be at most PGEXEC_POOL_MAX_CONTAINERS, which is 16"
    )


@pytest.mark.parametrize("path", ["/home/code", "/tmpx", "/opt/pgexecutor", "/code", "/home/tmp"])
def test_a_root_directory_of_its_own_is_taken(path: str) -> None:
    assert Settings.of(root_dir=path).root_dir == path


def test_a_file_of_certificates_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = str(Path(__file__).with_name("ca.pem"))
    monkeypatch.setenv("PGEXEC_CA_BUNDLE", bundle)
    assert load_settings()[0].ca_bundle == bundle


def test_a_dollar_in_a_file_is_a_dollar(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    (directory / "settings.local.env").write_text("PGEXEC_LOG_FILE=${HOME}/$HOME.txt\n")
    assert load_settings()[0].log_file == "${HOME}/$HOME.txt"


def test_a_log_file_needs_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "PGEXEC_LOG_FILE" in refusal("PGEXEC_LOG_FILE", "", monkeypatch)
    monkeypatch.setenv("PGEXEC_GENERATE_LOG_FILE", "false")
    assert load_settings()[0].log_file == ""


@pytest.mark.parametrize(
    ("name", "nearest"), [("PGEXEC_POTR", "PGEXEC_PORT"), ("PGEXEC_MAX_USE", "PGEXEC_MAX_USES")]
)
def test_an_unknown_name_is_a_warning_that_suggests_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "1")
    _, (warning,) = load_settings()
    assert warning == f"{name} is not a setting of pgexec; did you mean {nearest}?"


@pytest.mark.parametrize("name", sorted({*Settings.model_fields} - {"log_file"}))
def test_bytes_that_are_no_text_end_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The environment may hold any, of which only the name of a file can be made."""
    refusal(f"PGEXEC_{name.upper()}", "\udcff", monkeypatch)


def test_unknown_names_in_files_are_warned_of_too(directory: Path) -> None:
    (directory / "settings.local.env").write_text("PGEXEC_QQQQ=1\n")
    assert load_settings()[1] == ["PGEXEC_QQQQ is not a setting of pgexec"]


@pytest.mark.parametrize(
    "value", ["alice:s3cret,bob", "s3cret", "al ice:s3cret", "alice:s3cret,bob:s3cret", ":s3cret"]
)
def test_a_wrong_key_is_refused_without_showing_it(
    monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    sentence = refusal("PGEXEC_API_KEYS", value, monkeypatch)
    assert "s3cret" not in sentence


def test_keys_do_not_show_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGEXEC_API_KEYS", "alice:s3cret")
    settings, _ = load_settings()
    assert settings.api_keys.tenant("Bearer s3cret") == "alice"
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGEXEC_DISK_LIMIT", "1023KiB"),
        ("PGEXEC_CODE_LIMIT", "32MiB"),
        ("PGEXEC_PROFILES", '{"small": {"disk_limit": "128KiB"}}'),
    ],
)
def test_code_that_could_never_be_put_into_its_file_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv("PGEXEC_DISK_LIMIT", "16MiB")
    sentence = refusal(name, value, monkeypatch)
    assert "CODE_LIMIT" in sentence


@pytest.mark.parametrize("value", [",", " , ,"])
def test_commas_without_keys_do_not_open_the_server(
    monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    """As a template makes them of variables that are not set."""
    assert "no name:key pair" in refusal("PGEXEC_API_KEYS", value, monkeypatch)


@pytest.mark.parametrize("content", ["", "# nobody\n", "alice:one\n", "alice\n", "\xff"])
def test_a_file_of_keys_without_sound_keys_does_not_open_the_server(
    directory: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (directory / "keys").write_bytes(content.encode("latin-1"))
    assert "keys" in refusal("PGEXEC_API_KEYS", "file:keys", monkeypatch)


def test_a_path_is_taken_for_a_file_of_keys(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"one").hexdigest().upper()
    (directory / "keys").write_text(f"alice:{digest}\n")
    monkeypatch.setenv("PGEXEC_API_KEYS", str(directory / "keys"))
    assert load_settings()[0].api_keys.tenant("Bearer one") == "alice"


def keys_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = directory / "etc" / "pgexec" / "keys"
    path.parent.mkdir(parents=True)
    path.write_text(f"alice:{hashlib.sha256(b'one').hexdigest()}\n")
    path.chmod(0o644)
    monkeypatch.setenv("PGEXEC_API_KEYS", f"file:{path}")
    return path


def test_a_file_of_keys_that_only_its_owner_may_write_is_no_warning(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = keys_file(directory, monkeypatch)
    assert load_settings()[1] == []
    path.parent.chmod(0o1777)  # as /tmp: nobody can replace the files of others there
    assert load_settings()[1] == []


@pytest.mark.parametrize("open_up", ["file", "directory", "directory above", "behind a link"])
def test_a_file_of_keys_that_all_may_change_is_a_warning(
    directory: Path, monkeypatch: pytest.MonkeyPatch, open_up: str
) -> None:
    path = keys_file(directory, monkeypatch)
    if open_up == "file":
        path.chmod(0o666)
    elif open_up == "directory":
        path.parent.chmod(0o777)
    elif open_up == "directory above":
        path.parent.parent.chmod(0o777)
    else:
        (directory / "link").symlink_to(path)
        monkeypatch.setenv("PGEXEC_API_KEYS", f"file:{directory / 'link'}")
        path.parent.chmod(0o777)
    (warning,) = load_settings()[1]
    assert "chmod o-w" in warning
    assert "every user of this machine" in warning


def test_settings_that_all_may_change_are_a_warning(directory: Path) -> None:
    (directory / "settings.local.env").write_text("PGEXEC_PORT=9000\n")
    (directory / "settings.local.env").chmod(0o622)
    (warning,) = load_settings()[1]
    assert str(directory / "settings.local.env") in warning


@pytest.mark.parametrize(
    ("host", "keys", "exposed"),
    [
        ("0.0.0.0", "", True),
        ("0.0.0.0", "a:b", False),
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("::", "", True),
    ],
)
def test_a_public_address_without_keys_is_exposed(host: str, keys: str, *, exposed: bool) -> None:
    assert Settings.of(host=host, api_keys=keys).exposed is exposed


def test_sets_to_preload_are_separated_by_semicolons_and_normalised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGEXEC_DEPENDENCY_PRELOAD", "Requests; pandas[excel,html]>=2,<3 , numpy;")
    sets = load_settings()[0].dependency_preload
    assert sets == (("requests",), ("numpy", "pandas[excel,html]<3,>=2"))


def test_lists_of_packages_take_any_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGEXEC_DEPENDENCY_ALLOW", "Zope.Interface, six")
    assert load_settings()[0].dependency_allow == {"zope-interface", "six"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PGEXEC_DEPENDENCY_INDEX_URL", "ftp://user:hunter2@index/simple"),
        ("PGEXEC_DEPENDENCY_INDEX_URL", "https://a:hunter2@one/,https://b:hunter2@two/"),
        ("PGEXEC_DEPENDENCY_EXTRA_INDEX_URL", "index hunter2"),
        ("PGEXEC_DEPENDENCY_INDEX_CREDENTIALS", "hunter2"),
    ],
)
def test_what_is_wrong_with_an_index_is_said_without_its_credentials(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = refusal(name, value, monkeypatch)
    assert sentence.startswith(f"{name} must be ")
    assert "hunter2" not in sentence


DATA = {"image": "data", "preimport": ["numpy"], "memory_limit": "512MiB", "min_idle": 2}


def test_a_profile_takes_from_the_settings_what_it_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGEXEC_CPUS", "2")
    monkeypatch.setenv("PGEXEC_PREIMPORT", "json")
    monkeypatch.setenv("PGEXEC_PROFILES", json.dumps({"python-data": DATA, "tiny": {}}))
    settings, _ = load_settings()
    assert list(settings.by_language) == ["python", "python-data", "tiny"]
    assert settings.by_language["python"].settings is settings
    data = settings.by_language["python-data"].settings
    assert (data.image, data.memory_limit, data.cpus) == ("data", 512 << 20, 2)
    assert (data.pool_min_idle, data.pool_max_containers) == (2, 16)
    assert data.preimport == ("json", "numpy")
    assert settings.by_language["tiny"].settings == settings


def test_profiles_are_made_once_and_anew_for_a_copy_with_other_values() -> None:
    settings = Settings.of(profiles={"tiny": {}})
    assert settings.by_language is settings.by_language
    changed = settings.model_copy(update={"cpus": 3.0})
    assert changed.by_language["python"].settings is changed
    assert changed.by_language["tiny"].settings.cpus == 3
    assert settings.by_language["tiny"].settings.cpus == 1


def test_settings_that_hold_profiles_are_equal_by_their_values_alone() -> None:
    one, other = (Settings.of(profiles={"tiny": {}}) for _ in range(2))
    assert one == other
    assert one != Settings.of(profiles={"small": {}})


def test_a_profile_with_few_containers_keeps_no_more_of_them_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "PGEXEC_PROFILES", '{"a": {"max_containers": 3}, "b": {"max_containers": 9}}'
    )
    profiles = load_settings()[0].by_language
    assert profiles["a"].settings.pool_min_idle == 3
    assert profiles["b"].settings.pool_min_idle == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("profiles.json", '{"data": {"cpus": 2, "dependencies": ["numpy"]}}'),
        ("profiles.toml", '[data]\ncpus = 2\ndependencies = ["numpy"]'),
    ],
)
def test_profiles_may_stand_in_a_file_of_their_own(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    (directory / name).write_text(text)
    monkeypatch.setenv("PGEXEC_PROFILES", f"file:{directory / name}")
    profile = load_settings()[0].by_language["data"]
    assert (profile.settings.cpus, profile.dependencies) == (2, ("numpy",))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{", "it is not JSON: "),
        ("[]", "it is a list, but must be an object of profiles by name"),
        ('{"python": {}}', "'python' cannot be the name of a profile"),
        ('{"Python data": {}}', "'Python data' cannot be the name of a profile"),
        ('{"d": []}', "d is a list, but must be an object of fields"),
        ('{"d": {"memory": 1}}', "d has a field 'memory', but those of a profile are cpus, depend"),
        ('{"d": {"memory_limit": "1MiB"}}', "d: memory_limit is '1MiB', but must be a size of at"),
        ('{"d": {"min_idle": 1.5}}', "d: min_idle is 1.5, but must be a whole number from 0 to"),
        ('{"d": {"min_idle": 20}}', "d: min_idle is 20, but must be at most max_containers, which"),
        ('{"d": {"network": "host"}}', "d: network is 'host', but must be egress, none, or"),
        ('{"d": {"cpus": null}}', "d: cpus is null, but must be a string or a number"),
        ('{"d": {"preimport": "numpy"}}', 'd: preimport is "numpy", but must be a list of strings'),
        ('{"d": {"preimport": ["num py"]}}', "d: preimport is 'num py', but must be a list of mod"),
        ('{"d": {"dependencies": ["-e ."]}}', "d: dependencies has '-e .', but must be"),
        ('{"d": {"dependencies": ["a @ file:///x"]}}', "d: dependencies has 'a @ file:///x', but"),
        ("file:/nowhere/profiles.toml", "/nowhere/profiles.toml cannot be read: No such file"),
    ],
)
def test_a_wrong_profile_stops_the_start_with_its_name_and_field(
    monkeypatch: pytest.MonkeyPatch, value: str, sentence: str
) -> None:
    assert refusal("PGEXEC_PROFILES", value, monkeypatch).startswith(f"PGEXEC_PROFILES: {sentence}")


@pytest.mark.parametrize(
    ("share", "changes"),
    [
        (0, {}),
        (0, {"api_keys": "a:1"}),
        (12, {"api_keys": "a:1,b:2"}),
        (12, {"api_keys": "a:1", "trusted_keys": "a"}),
        (0, {"api_keys": "a:1,a:2"}),
        (0, {"api_keys": "a:1,b:2", "tenant_max_running": 0}),
        (0, {"api_keys": "a:1,b:2", "tenant_max_running": 5}),
        (0, {"api_keys": "a:1,b:2", "pool_max_containers": 1, "pool_min_idle": 1}),
        (1, {"api_keys": "a:1,b:2", "pool_max_containers": 2, "pool_min_idle": 1}),
    ],
)
def test_one_of_several_tenants_has_three_quarters_of_the_containers(
    share: int, changes: dict[str, Any]
) -> None:
    settings = Settings.of(**changes)
    assert pool_config(settings).tenant_share == share
    assert pool_config(settings).tenant_max_running == (settings.tenant_max_running or 0)


@pytest.mark.parametrize(
    ("shares", "changes"),
    [
        ((12, 9, 12), {}),
        ((0, 0, 12), {"tenant_max_running": 5}),
        ((0, 0, 0), {"tenant_max_running": 0}),
        ((12, 12, 0), {"api_keys": "a:1"}),
        ((0, 0, 0), {"trusted_keys": "", "api_keys": "a:1"}),
        ((1, 1, 1), {"pool_max_containers": 2, "pool_min_idle": 1}),
    ],
)
def test_the_users_of_a_trusted_key_share_what_it_may_have(
    shares: tuple[int, int, int], changes: dict[str, Any]
) -> None:
    settings = Settings.of(**{"api_keys": "a:1,b:2", "trusted_keys": "a", **changes})
    assert pool_config(settings).shares == shares


def test_a_trusted_key_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGEXEC_API_KEYS", "front:one")
    sentence = refusal("PGEXEC_TRUSTED_KEYS", "frnot", monkeypatch)
    assert "'frnot'" in sentence


def test_more_sessions_than_the_largest_pool_has_containers_are_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = {"max_containers": 17}
    for most, profiles, wanted in (
        ("16", {}, False),
        ("17", {}, True),
        ("17", {"data": profile}, False),
    ):
        monkeypatch.setenv("PGEXEC_SESSIONS_MAX", most)
        monkeypatch.setenv("PGEXEC_PROFILES", json.dumps(profiles))
        _, warnings = load_settings()
        sentence = "PGEXEC_SESSIONS_MAX is 17, but no pool has more than 16 containers"
        assert any(one.startswith(sentence) for one in warnings) is wanted
