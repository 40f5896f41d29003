"""The settings: read, checked and named as the server uses them."""

from pgexec.settings.model import Profile, Settings, SettingsError, load_settings

__all__ = ["Profile", "Settings", "SettingsError", "load_settings"]
