"""The keys about what lies on the disk: folders, flushing, sizes, removal, index."""

# ruff: noqa: RUF009 (a call of key() makes a field)

from dataclasses import dataclass
from pathlib import Path

from . import config_values as v
from .config_keys import Idle, key

KIB = 1 << 10
GIB = 1 << 30
# A segment must hold an entry header, a record and the mark of its end; below this nothing works.
MIN_SEGMENT_BYTES = 64 * KIB
QUEUE_UNIT_BYTES = 20

_FLUSH = Idle(
    group="a flush is one fdatasync for all that arrived, by flushDiskType; pages are not counted"
)
_QUEUE_FLUSH = Idle(group="queue files are rebuilt from the log and need no flush of theirs")
_RETENTION = Idle(
    group="the group decides what is removed, a few files at a time, and all nodes do the same"
)
_OFFSETS = Idle(group="consumer offsets are records of the log; see offsetFlushIntervalMs")
_IN_LOG = Idle(
    group="a group's log lies in storePathRootDir/dledger-<dLegerSelfId>;"
    " storePathDLedgerCommitLog moves it"
)
_PROGRESS = Idle(group="a group's store notes its progress beside its log")


@dataclass(frozen=True, kw_only=True)
class StoreKeys:
    """A part of `BrokerConfig`."""

    store_path_root_dir: Path = key(
        "storePathRootDir", v.folder, lambda: Path.home() / "store", "Folder of everything stored",
        factory=True, default="~/store", important=True,
    )  # fmt: skip
    store_path_commit_log: Path | None = key(
        "storePathCommitLog", v.folder, None, "Folder of a plain commitlog",
        default="storePathRootDir/commitlog", idle=_IN_LOG,
    )  # fmt: skip
    store_path_dledger_commit_log: Path | None = key(
        "storePathDLedgerCommitLog", v.folder, None, "Folder of the log's data files",
        default="storePathRootDir/dledger-<dLegerSelfId>/data",
        idle=Idle(plain="a plain log lies in storePathCommitLog"),
    )  # fmt: skip
    store_path_consume_queue: Path | None = key(
        "storePathConsumeQueue", v.folder, None, "Folder of the queue files",
        default="storePathRootDir/consumequeue",
    )  # fmt: skip
    store_path_index: Path | None = key(
        "storePathIndex", v.folder, None, "Folder of the index by key",
        default="storePathRootDir/index",
    )  # fmt: skip
    store_checkpoint: Path | None = key(
        "storeCheckpoint", v.folder, None, "File that says up to when everything is on the disk",
        default="storePathRootDir/checkpoint", idle=_PROGRESS,
    )  # fmt: skip
    abort_file: Path | None = key(
        "abortFile", v.folder, None, "File that is there while the broker runs, and after a crash",
        default="storePathRootDir/abort",
    )  # fmt: skip
    flush_disk_type: str = key(
        "flushDiskType", v.choice("ASYNC_FLUSH", "SYNC_FLUSH"), "ASYNC_FLUSH",
        "SYNC_FLUSH: a message counts on a node once it is on its disk. ASYNC_FLUSH: once it is"
        " written; the last messages are lost when the node, in a group a majority, loses power",
        important=True,
    )  # fmt: skip
    flush_interval_commit_log_ms: int = key(
        "flushIntervalCommitLog", v.integer(1), 500, "Time between flushes under ASYNC_FLUSH",
        unit="ms",
    )  # fmt: skip
    flush_commit_log_least_pages: int = key(
        "flushCommitLogLeastPages", v.integer(0), 4,
        "ASYNC_FLUSH waits until this much is new, 4 KiB each", unit="pages", idle=_FLUSH,
    )  # fmt: skip
    flush_commit_log_thorough_interval_ms: int = key(
        "flushCommitLogThoroughInterval", v.integer(0), 10_000,
        "ASYNC_FLUSH flushes after this long however little is new", unit="ms", idle=_FLUSH,
    )  # fmt: skip
    sync_flush_timeout_ms: int = key(
        "syncFlushTimeout", v.integer(1), 5000,
        "SYNC_FLUSH: a send not on the disk by then is answered FLUSH_DISK_TIMEOUT; it is kept",
        unit="ms",
        idle=Idle(group="a send waits until a majority has it, within the group's own timeouts"),
    )  # fmt: skip
    flush_interval_consume_queue_ms: int = key(
        "flushIntervalConsumeQueue", v.integer(1), 1000, "Time between flushes of queue files",
        unit="ms", idle=_QUEUE_FLUSH,
    )  # fmt: skip
    flush_consume_queue_least_pages: int = key(
        "flushConsumeQueueLeastPages", v.integer(0), 2,
        "A queue file is flushed when this much is new, 4 KiB each", unit="pages",
        idle=_QUEUE_FLUSH,
    )  # fmt: skip
    flush_consume_queue_thorough_interval_ms: int = key(
        "flushConsumeQueueThoroughInterval", v.integer(0), 60_000,
        "Queue files are flushed after this long however little is new", unit="ms",
        idle=_QUEUE_FLUSH,
    )  # fmt: skip
    flush_consumer_offset_interval_ms: int = key(
        "flushConsumerOffsetInterval", v.integer(1), 5000,
        "Time between writes of config/consumerOffset.json", unit="ms", idle=_OFFSETS,
    )  # fmt: skip
    mapped_file_size_commit_log: int = key(
        "mappedFileSizeCommitLog", v.integer(MIN_SEGMENT_BYTES), GIB,
        "Size of a log file; it cannot change later, and every peer of a group must have the same",
        unit="bytes", aliases=("mapedFileSizeCommitLog",),
    )  # fmt: skip
    mapped_file_size_consume_queue: int = key(
        "mappedFileSizeConsumeQueue", v.integer(QUEUE_UNIT_BYTES), 300_000 * QUEUE_UNIT_BYTES,
        "Size of a queue file, rounded up to whole 20-byte units; it is bytes, not units",
        unit="bytes", aliases=("mapedFileSizeConsumeQueue",),
    )  # fmt: skip
    file_reserved_hours: int = key(
        "fileReservedTime", v.integer(1, 24 * 365 * 100), 72,
        "How long messages are kept at least; a log file goes when its newest one is older",
        unit="hours", important=True,
    )  # fmt: skip
    delete_when: tuple[str, ...] = key(
        "deleteWhen", v.hours, ("04",),
        "Hours of the day, local time, in which old log files are removed, `04;16`",
        important=True,
    )  # fmt: skip
    disk_max_used_percent: int = key(
        "diskMaxUsedSpaceRatio", v.integer(10, 95), 75,
        "When the disk is fuller, old log files are removed at any hour", unit="percent",
    )  # fmt: skip
    disk_space_clean_forcibly_percent: int = key(
        "diskSpaceCleanForciblyRatio", v.integer(30, 85), 85,
        "When the disk is fuller, the oldest log files are removed however young", unit="percent",
    )  # fmt: skip
    disk_space_warning_level_percent: int = key(
        "diskSpaceWarningLevelRatio", v.integer(35, 90), 90,
        "When the disk is fuller, sends are refused", unit="percent",
    )  # fmt: skip
    clean_file_forcibly_enable: bool = key(
        "cleanFileForciblyEnable", v.boolean, True,
        "false: a log file younger than fileReservedTime is never removed",
    )  # fmt: skip
    clean_resource_interval_ms: int = key(
        "cleanResourceInterval", v.integer(1), 10_000, "Time between looks for files to remove",
        unit="ms",
    )  # fmt: skip
    delete_file_batch_max: int = key(
        "deleteFileBatchMax", v.integer(1), 10, "Most log files removed at one look",
        unit="files",
    )  # fmt: skip
    delete_commit_log_files_interval_ms: int = key(
        "deleteCommitLogFilesInterval", v.integer(0), 100, "Pause between removals of log files",
        unit="ms", idle=_RETENTION,
    )  # fmt: skip
    delete_consume_queue_files_interval_ms: int = key(
        "deleteConsumeQueueFilesInterval", v.integer(0), 100,
        "Pause between removals of queue files", unit="ms", idle=_RETENTION,
    )  # fmt: skip
    destroy_mapped_file_interval_forcibly_ms: int = key(
        "destroyMapedFileIntervalForcibly", v.integer(0), 120_000,
        "A removed file that is still being read is closed after this long", unit="ms",
        aliases=("destroyMappedFileIntervalForcibly",), idle=_RETENTION,
    )  # fmt: skip
    redelete_hanged_file_interval_ms: int = key(
        "redeleteHangedFileInterval", v.integer(0), 120_000,
        "Time until a removal that failed is tried again", unit="ms", idle=_RETENTION,
    )  # fmt: skip
    message_index_enable: bool = key(
        "messageIndexEnable", v.boolean, True, "Keep the index by key",
    )  # fmt: skip
    max_hash_slot_num: int = key(
        "maxHashSlotNum", v.integer(1), 5_000_000, "Hash slots of an index file", unit="slots",
    )  # fmt: skip
    max_index_num: int = key(
        "maxIndexNum", v.integer(2), 20_000_000, "Entries of an index file", unit="entries",
    )  # fmt: skip
    max_msgs_num_batch: int = key(
        "maxMsgsNumBatch", v.integer(1), 64, "Most messages that a query by key answers",
        unit="messages",
    )  # fmt: skip
