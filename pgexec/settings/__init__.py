"""The settings: read from files and the environment, and checked."""

from pgexec.settings.loading import SettingsError, load_settings
from pgexec.settings.model import Profile, Settings

__all__ = ["Profile", "Settings", "SettingsError", "load_settings"]
