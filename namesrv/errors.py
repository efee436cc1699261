"""What can be wrong before a name server runs."""

from ledgermq.remoting.errors import CallerError


class ConfigError(CallerError):
    """A configuration that cannot be used; the message names file, line, key and next step."""


class KvStoreError(CallerError):
    """kvConfig.json cannot be read; the message names the file and the next step."""
