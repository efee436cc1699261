"""Requests 318 and 319: an operator changes and reads the configuration while it runs."""

import asyncio
import logging
import os
from dataclasses import replace

import aiofiles
import aiofiles.os

from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.errors import CallerError, PeerError
from ledgermq.remoting.properties import Property, parse

from . import config as configuration
from .config import NamesrvConfig
from .state import NameServer

log = logging.getLogger(__name__)

_SOURCE = "request"


def get_config(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """319: all keys as lines `key=value`, sorted."""
    text = "".join(f"{key}={value}\n" for key, value in server.config.items().items())
    return response(ResponseCode.SUCCESS, body=text.encode())


async def update_config(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """318: change some keys, all of them or none; answered when they are in the file.

    Upstream takes any key and keeps those that cannot take effect silently; here they are refused.
    """
    changed = replace(server.config)
    try:
        changes = parse(command.body, _SOURCE)
        for item in changes:
            _refuse_unchangeable(server.config, item)
        configuration.apply(changed, changes, _SOURCE)
    except CallerError as e:
        raise PeerError(ResponseCode.INVALID_PARAMETER, str(e)) from e
    await _store(changed, {item.key: item.value for item in changes})
    for item in changes:
        server.config.set(item.key, item.value, _SOURCE)
        log.info("configuration changed: %s=%s", item.key, item.value)
    server.take_bounds()
    return response(ResponseCode.SUCCESS)


def _refuse_unchangeable(config: NamesrvConfig, item: Property) -> None:
    if config.refused_at_runtime(item.key):
        raise PeerError(
            ResponseCode.NO_PERMISSION,
            f"Can not update config in black list: {item.key}. Change it in"
            f" {config.config_store_path} and restart the name server.",
        )
    if item.key not in configuration.known_keys():
        raise PeerError(ResponseCode.INVALID_PARAMETER, configuration.explain_unknown(item.key))
    if not configuration.is_live(item.key):
        raise PeerError(
            ResponseCode.INVALID_PARAMETER,
            f"{item.key} takes effect at a start only: change it in {config.config_store_path}"
            " and restart the name server",
        )


async def _store(config: NamesrvConfig, changes: dict[str, str]) -> None:
    path = config.path("configStorePath")
    await aiofiles.os.makedirs(path.parent, exist_ok=True)
    text = ""
    if await aiofiles.os.path.exists(path):
        async with aiofiles.open(path, encoding="utf-8-sig") as file:
            text = await file.read()
    temporary = path.with_name(path.name + ".tmp")
    async with aiofiles.open(temporary, "w", encoding="utf-8") as file:
        await file.write(configuration.rewrite(text, changes))
        await file.flush()
        await asyncio.to_thread(os.fsync, file.fileno())
    await aiofiles.os.replace(temporary, path)
