"""The tables of a broker without a group: config/*.json, read at the start and written on change.

Upstream's files under upstream's names, so that either program can go on where the other stopped;
`deletedTopics.json` is ours alone. There is no checksum in upstream's form: a digit that changed on
the disk is not noticed, a row that cannot be one is.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec

from ledgermq.broker import config_json
from ledgermq.broker.config_json import BrokenJsonError, broken_row
from ledgermq.broker.metadata import Metadata, Offsets
from ledgermq.broker.table_file import TableFile, metadata_files
from ledgermq.dledger.disk import Disk, read_file
from ledgermq.dledger.errors import CallerError, DiskFullError
from ledgermq.dledger.store.segments import translated
from ledgermq.remoting.bodies.group import SubscriptionGroupConfig
from ledgermq.remoting.bodies.registration import DataVersion, TopicConfig
from ledgermq.remoting.clock import wall_ms
from ledgermq.remoting.errors import shortened

Rows = TypeVar("Rows", bound=dict[str, Any])
Numbers = TypeVar("Numbers", dict[int, int], dict[str, int])
Row = TypeVar("Row", TopicConfig, SubscriptionGroupConfig)

_DELETED: Final = "deletedTopics"
_MAX_INT: Final = (1 << 31) - 1
_MAX_LONG: Final = (1 << 63) - 1
# What is lost with each file: whoever gives it up should know.
_LOSS: Final = {
    "topics.json": "all topics have to be created again, with their number of queues",
    "subscriptionGroup.json": "all consumer groups begin with default settings",
    "consumerOffset.json": "all consumer groups begin again where new ones begin",
    "deletedTopics.json": "messages of deleted topics may come back",
}


class Tables:
    """Metadata and its files.

    Deleting a topic takes `note_deleted`, then the change itself, then `save_offsets`, then
    `save_topics`: whenever the power fails, neither old records nor old offsets come back under a
    new topic of that name.

    Attributes:
        deleted: name of a deleted topic -> physical offset of the log's end at that time; records
            of that name below it are not to be dispatched.
    """

    def __init__(
        self,
        folder: Path,
        metadata: Metadata,
        disk: Disk,
        threads: Executor,
        *,
        now_ms: Callable[[], int] = wall_ms,
    ) -> None:
        """Nothing is read yet.

        Args:
            folder: `<store>/config`; made when something is to be saved.
            metadata: is filled by `load`, and saved.
            disk: where the folder is.
            threads: do the writing.
            now_ms: milliseconds since 1970.
        """
        self._metadata = metadata
        self._disk = disk
        self._now_ms = now_ms
        self._files = metadata_files(folder, metadata, disk, threads)
        self.deleted: dict[str, int] = {}
        self._deletions = 0
        self._deleted_file = TableFile(
            folder / "deletedTopics.json",
            disk,
            threads,
            version=lambda: self._deletions,
            table=lambda: {_DELETED: dict(self.deleted)},
        )

    # --- reading ------------------------------------------------------------------------------

    def load(self) -> list[str]:
        """Fill the metadata; a file that is broken or missing is replaced by its backup.

        Returns:
            Warnings for the operator.

        Raises:
            CallerError: neither a file nor its backup can be used; names both, and what to do.
            StorageError: the disk failed.
        """
        warnings: list[str] = []
        files = self._files
        topics, topic_version = self._read(files.topics, _topics, warnings)
        groups, group_version = self._read(files.groups, _groups, warnings)
        offsets, offset_version = self._read(files.offsets, _offsets, warnings)
        self.deleted, _ = self._read(self._deleted_file, _deleted, warnings)
        self._metadata.adopt(
            topics.values(),
            groups.values(),
            offsets,
            (topic_version.counter, group_version.counter, offset_version.counter),
            max(self._now_ms(), topic_version.timestamp + 1),
        )
        for file in (*files, self._deleted_file):
            file.loaded()
        unknown = sorted({topic for rows in offsets.values() for topic in rows} - topics.keys())
        if unknown:
            warnings.append(
                f"{files.offsets.path}: the offsets in {len(unknown)} topics that do not exist are"
                f" left out: {shortened(', '.join(unknown), 200)}"
            )
        return warnings

    def _read(
        self,
        file: TableFile,
        parse: Callable[[bytes], tuple[Rows, DataVersion]],
        warnings: list[str],
    ) -> tuple[Rows, DataVersion]:
        """What a file holds, else its backup; nothing when there is neither."""
        problems: list[str] = []
        for path in (file.path, file.backup):
            try:
                data = read_file(self._disk, path)
                found = parse(data) if data is not None else None
            except BrokenJsonError as e:
                problems.append(str(e))
                continue
            except OSError as e:
                raise translated(e, path, "read") from e
            if found is None:
                problems.append("missing")
                continue
            if problems:
                file.use_backup()
                warnings.append(
                    f"{file.path} is not used ({problems[0]}); {path.name}, the version before it,"
                    " was read instead. What changed last is lost"
                )
            return found
        if problems == ["missing", "missing"]:
            return cast(Rows, {}), DataVersion()
        raise CallerError(
            f"{file.path} cannot be used: {problems[0]}; nor can {file.backup.name}:"
            f" {problems[1]}. Mend one of them with an editor, or put a copy back. To go on"
            f" without, remove both: then {_LOSS[file.path.name]}"
        )

    # --- writing ------------------------------------------------------------------------------

    async def save_topics(self) -> None:
        """Have the topics of this moment on disk; nothing is done if they are.

        Raises:
            DiskFullError: no room; the file is what it was.
            StorageError: the disk failed.
        """
        await self._files.topics.save()

    async def save_groups(self) -> None:
        """The same for the consumer groups."""
        await self._files.groups.save()

    async def save_offsets(self) -> None:
        """The same for the consumer offsets."""
        await self._files.offsets.save()

    async def note_deleted(self, name: str, pos: int) -> None:
        """Remember, on disk, that records of a topic below `pos` are of one that is deleted.

        Raises:
            DiskFullError: no room; better leave the topic as it is.
            StorageError: the disk failed.
        """
        noted = self.deleted.get(name)
        self.deleted[name] = pos
        self._deletions += 1
        try:
            await self._deleted_file.save()
        except DiskFullError:
            # The topic stays, and so must its messages when the queues are made anew.
            self._deletions += 1
            if noted is None:
                del self.deleted[name]
            else:
                self.deleted[name] = noted
            raise

    def forget_deleted_below(self, pos: int) -> None:
        """The log begins at `pos` now: what was deleted before that is gone. Saved some time."""
        self.deleted = {name: end for name, end in self.deleted.items() if end > pos}


# --- what the files hold ------------------------------------------------------------------------


def _topics(data: bytes) -> tuple[dict[str, TopicConfig], DataVersion]:
    table, version = _table(data, "topicConfigTable")
    topics = {name: _row(data, name, row, TopicConfig) for name, row in table.items()}
    for name, topic in topics.items():
        if topic.topic_name != name:
            raise broken_row(data, name, f"calls itself {topic.topic_name!r}")
        numbers = (topic.read_queue_nums, topic.write_queue_nums, topic.perm)
        if min(numbers) < 0 or max(numbers) > _MAX_INT:
            raise broken_row(data, name, f"queues and perm cannot be {numbers}")
    return topics, version


def _groups(data: bytes) -> tuple[dict[str, SubscriptionGroupConfig], DataVersion]:
    table, version = _table(data, "subscriptionGroupTable")
    groups = {name: _row(data, name, row, SubscriptionGroupConfig) for name, row in table.items()}
    for name, group in groups.items():
        if group.group_name != name:
            raise broken_row(data, name, f"calls itself {group.group_name!r}")
    return groups, version


def _offsets(data: bytes) -> tuple[Offsets, DataVersion]:
    table, version = _table(data, "offsetTable")
    offsets: Offsets = {}
    for key, row in table.items():
        topic, at, group = key.partition("@")
        if not at:
            raise broken_row(data, key, "no topic@group")
        queues = _numbers(data, key, row, dict[int, int])
        # Upstream's -1 means that the group has not read yet.
        known = {queue: offset for queue, offset in queues.items() if offset >= 0}
        if known:
            offsets.setdefault(group, {})[topic] = known
    return offsets, version


def _deleted(data: bytes) -> tuple[dict[str, int], DataVersion]:
    table, version = _table(data, _DELETED)
    return _numbers(data, _DELETED, table, dict[str, int]), version


def _table(data: bytes, name: str) -> tuple[dict[str, object], DataVersion]:
    """The rows under `name`, and how often they had changed.

    A file without them is a broken one: upstream writes the name above an empty table too.
    """
    tree = config_json.read(data)
    table = tree.get(name)
    if not isinstance(table, dict):
        raise BrokenJsonError(f"{name} is missing")
    try:
        version = msgspec.convert(tree.get("dataVersion") or {}, DataVersion, strict=False)
    except msgspec.ValidationError as e:
        raise broken_row(data, "dataVersion", str(e)) from e
    if not 0 <= max(version.counter, version.timestamp) <= _MAX_LONG:
        raise broken_row(data, "dataVersion", "numbers that cannot be")
    return table, version


def _row(data: bytes, name: str, row: object, cls: type[Row]) -> Row:
    """Settings; what is missing or null has its default, what is unknown is left out."""
    if not isinstance(row, dict):
        raise broken_row(data, name, "no settings")
    named = {"topicName": name, "groupName": name}
    try:
        found = msgspec.convert(
            named | {key: value for key, value in row.items() if value is not None},
            cls,
            strict=False,
        )
    except (msgspec.ValidationError, RecursionError) as e:
        raise broken_row(data, name, str(e)) from e
    for field in cls.__struct_fields__:
        value = getattr(found, field)
        if isinstance(value, int) and abs(value) > _MAX_LONG:
            raise broken_row(data, name, f"{value} cannot be")
    return found


def _numbers(data: bytes, key: str, row: object, cls: type[Numbers]) -> Numbers:
    """Whole numbers by name or number."""
    try:
        found = msgspec.convert(row, cls, strict=False)
    except msgspec.ValidationError as e:
        raise broken_row(data, key, str(e)) from e
    if found and max(found.values()) > _MAX_LONG:
        raise broken_row(data, key, f"{max(found.values())} cannot be")
    return found
