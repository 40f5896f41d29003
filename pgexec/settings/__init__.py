"""The settings: read, checked and named as the server uses them."""

from pgexec.settings.loading import SettingsError, load_settings
from pgexec.settings.model import Profile, Settings

__all__ = ["Profile", "Settings", "SettingsError", "load_settings"]
