"""What is known about each key of a broker.conf: name, reader, unit, effect.

The keys with an effect are fields of `BrokerConfig`, made by `key()`. The others are listed in
`INERT`: upstream knows them, or a published configuration carries them, and here they change
nothing. Both tables become docs/config.md.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from .config_values import Reader


@dataclass(frozen=True, slots=True)
class Key:
    """One key that a `BrokerConfig` field holds.

    Attributes:
        name: upstream's spelling, or ours for a key upstream lacks.
        read: text -> value; ValueError says what is wrong and what to write.
        doc: one line for docs/config.md; a unit where there is one.
        unit: "ms", "bytes" …, or "".
        default: the default in words, when it is found out at start; else "".
        aliases: older spellings.
        important: shown by `mqbroker -m`.
        inert: why the key changes nothing in a DLedger group, or "".
        ours: upstream has no such key.
    """

    name: str
    read: Reader
    doc: str
    unit: str = ""
    default: str = ""
    aliases: tuple[str, ...] = ()
    important: bool = False
    inert: str = ""
    ours: bool = False


def key(
    name: str, read: Reader, value: Any, doc: str, *, factory: bool = False, **more: Any
) -> Any:
    """A dataclass field with its key; `value` is the default, or its maker with `factory`."""
    metadata = {"key": Key(name, read, doc, **more)}
    if factory:
        return field(default_factory=value, metadata=metadata)
    return field(default=value, metadata=metadata)


def keys_of(config_class: type) -> dict[str, Key]:
    """Field name -> key, in the order of the fields."""
    return {f.name: f.metadata["key"] for f in fields(config_class) if "key" in f.metadata}


_LAYOUT = "its place is fixed below storePathRootDir"
_THREADS = "one event loop serves all requests; there is no thread pool to size"
_QUEUES = "no thread pool, so no queue before it; sendThreadPoolQueueCapacity bounds pending sends"
_RETENTION = "the group decides what is removed, a few files at a time, and all nodes do the same"
_FORCED = "a message younger than fileReservedTime is never removed; a full disk refuses writes"
_FLUSH = "a flush is one fdatasync for all that arrived, by flushDiskType; pages are not counted"
_HA = "replication is DLedger's; there is no separate HA channel"
_TIMER = "timer messages of 5.x are not served"
_TRANSACTION = "transactional messages are not served yet"
DELAY_NOT_SERVED = "scheduled delivery is not served yet"
_INDEX = "the key index is not written yet"
_FILTER = "SQL92 filters are not served yet; tags are"
_ACL = "access control is not served yet"
_MEMORY = "the page cache is the system's; nothing is mapped, warmed or locked"
_FAST_FAILURE = "requests are answered in the loop that read them; none waits in a queue"
_OFFSETS = "consumer offsets are records of the log; see offsetFlushIntervalMs"
_NAMESRV = "the full topic table goes out with every registration, uncompressed"
_TLS = "TLS is not served yet"

# Key -> why it changes nothing.
INERT: dict[str, str] = {
    "abortFile": _LAYOUT,
    "accessMessageInMemoryMaxRatio": "the share is fixed at upstream's 40 percent of the memory",
    "aclEnable": _ACL,
    "adminBrokerThreadPoolNums": _THREADS,
    "asyncSendEnable": "every send is answered when it is committed, never by a blocked thread",
    "brokerFastFailureEnable": _FAST_FAILURE,
    "brokerIP2": _HA,
    "brokerRole": "the role is decided by election: leader or follower",
    "checkTransactionMessageEnable": _TRANSACTION,
    "cleanFileForciblyEnable": _FORCED,
    "cleanResourceInterval": _RETENTION,
    "clientManageThreadPoolQueueCapacity": _QUEUES,
    "clientManageThreadPoolNums": _THREADS,
    "commercialEnable": "there are no commercial statistics",
    "compressedRegister": _NAMESRV,
    "consumerManageThreadPoolNums": _THREADS,
    "consumerManagerThreadPoolQueueCapacity": _QUEUES,
    "defaultQueryMaxNum": _INDEX,
    "deleteCommitLogFilesInterval": _RETENTION,
    "deleteConsumeQueueFilesInterval": _RETENTION,
    "deleteFileBatchMax": _RETENTION,
    "destroyMapedFileIntervalForcibly": _MEMORY,
    "disableConsumeIfConsumerReadSlowly": "a slow consumer is not switched off",
    "diskSpaceCleanForciblyRatio": _FORCED,
    "diskSpaceWarningLevelRatio": _FORCED,
    "enableBatchPush": "pushes to followers are always batched",
    "enableCalcFilterBitMap": _FILTER,
    "enableConsumeQueueExt": _FILTER,
    "enableControllerMode": "the group elects its leader itself; there is no controller",
    "enablePropertyFilter": _FILTER,
    "enableSlaveActingMaster": "a group without a leader elects one; no follower acts for it",
    "endTransactionThreadPoolQueueCapacity": _QUEUES,
    "fastFailIfNoBufferInStorePool": _MEMORY,
    "fetchNamesrvAddrByAddressServer": "name servers come from namesrvAddr, -n or NAMESRV_ADDR",
    "filterServerNums": "filter servers ended with 4.x",
    "filterSupportRetry": _FILTER,
    "flushCommitLogLeastPages": _FLUSH,
    "flushCommitLogThoroughInterval": _FLUSH,
    "flushCommitLogTimed": _FLUSH,
    "flushConsumeQueueLeastPages": _FLUSH,
    "flushConsumeQueueThoroughInterval": _FLUSH,
    "flushConsumerOffsetHistoryInterval": _OFFSETS,
    "flushConsumerOffsetInterval": _OFFSETS,
    "flushDelayOffsetInterval": DELAY_NOT_SERVED,
    "flushIntervalConsumeQueue": "queue files are rebuilt from the log and need no flush of theirs",
    "forceRegister": _NAMESRV,
    "haHousekeepingInterval": _HA,
    "haListenPort": _HA,
    "haMasterAddress": _HA,
    "haSendHeartbeatInterval": _HA,
    "haSlaveFallbehindMax": _HA,
    "haTransferBatchSize": _HA,
    "heartbeatThreadPoolNums": _THREADS,
    "heartbeatThreadPoolQueueCapacity": _QUEUES,
    "highSpeedMode": "there is one speed",
    "litePullMessageEnable": "a lite pull is served like any other pull",
    "litePullMessageThreadPoolNums": _THREADS,
    "mappedFileSizeConsumeQueueExt": _FILTER,
    "maxHashSlotNum": _INDEX,
    "maxIndexNum": _INDEX,
    "maxMsgsNumBatch": _INDEX,
    "messageIndexEnable": _INDEX,
    "messageIndexSafe": _INDEX,
    "msgTraceTopicName": "the trace topic is RMQ_SYS_TRACE_TOPIC",
    "offsetCheckInSlave": "a follower never answers 'offset moved' for what it has not yet got",
    "osPageCacheBusyTimeOutMills": _FAST_FAILURE,
    "processReplyMessageThreadPoolNums": _THREADS,
    "processReplyMessageThreadPoolQueueCapacity": _QUEUES,
    "pullMessageThreadPoolNums": _THREADS,
    "pullThreadPoolQueueCapacity": _QUEUES,
    "queryMessageThreadPoolNums": _THREADS,
    "queryThreadPoolQueueCapacity": _QUEUES,
    "redeleteHangedFileInterval": _RETENTION,
    "rejectTransactionMessage": _TRANSACTION,
    "rocketmqHome": "the home folder only matters to the shell wrappers, as ROCKETMQ_HOME",
    "sendMessageThreadPoolNums": _THREADS,
    "serverAsyncSemaphoreValue": _THREADS,
    "serverCallbackExecutorThreads": _THREADS,
    "serverChannelMaxIdleTimeSeconds": "an idle connection is closed after upstream's 120 s",
    "serverOnewaySemaphoreValue": _THREADS,
    "serverPooledByteBufAllocatorEnable": _MEMORY,
    "serverSelectorThreads": _THREADS,
    "serverSocketRcvBufSize": "the system sizes socket buffers",
    "serverSocketSndBufSize": "the system sizes socket buffers",
    "serverWorkerThreads": _THREADS,
    "slaveReadEnable": "a follower always serves pulls, of committed messages only",
    "slaveTimeout": _HA,
    "startAcceptSendRequestTimeStamp": "sends are accepted as soon as there is a ready leader",
    "storeCheckpoint": _LAYOUT,
    "storePathConsumeQueue": _LAYOUT,
    "storePathIndex": _LAYOUT,
    "storeReplyMessageEnable": "request-reply is not served yet",
    "syncFlushTimeout": "a send waits until a majority has it, within the group's own timeouts",
    "timerMaxDelaySec": _TIMER,
    "timerPrecisionMs": _TIMER,
    "timerWheelEnable": _TIMER,
    "tlsTestModeEnable": _TLS,
    "transactionCheckInterval": _TRANSACTION,
    "transactionCheckMax": _TRANSACTION,
    "transactionTimeOut": _TRANSACTION,
    "transferMsgByHeap": "messages always pass through memory",
    "transientStorePoolEnable": _MEMORY,
    "transientStorePoolSize": _MEMORY,
    "useEpollNativeSelector": _THREADS,
    "useReentrantLockWhenPutMessage": "appends are in one loop; there is no lock",
    "useServerSideResetOffset": "resetting offsets is not served yet",
    "useTLS": _TLS,
    "waitTimeMillsInHeartbeatQueue": _FAST_FAILURE,
    "waitTimeMillsInPullQueue": _FAST_FAILURE,
    "warmMapedFileEnable": _MEMORY,
}
