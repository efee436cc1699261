"""Keys that change nothing here: RocketMQ knows them, or a published configuration has them.

Each has its reason; where the two kinds of broker differ, one for each.
"""

from .config_keys import Idle


def _everywhere(reason: str) -> Idle:
    return Idle(reason, reason)


_THREADS = _everywhere("one event loop serves all requests; there is no thread pool to size")
_QUEUES = _everywhere(
    "no thread pool, so no queue before it; sendThreadPoolQueueCapacity bounds pending sends"
)
_HA = Idle(
    "replication is DLedger's; there is no separate HA channel",
    "a plain broker has no slaves; see conf/dledger for several copies",
)
_NO_SLAVES = "a plain broker has no slaves"
_TIMER = _everywhere("timer messages of 5.x are not served")
_TRANSACTION = _everywhere("transactional messages are not served yet")
DELAY_NOT_SERVED = _everywhere("scheduled delivery is not served yet")
_INDEX_QUERY = _everywhere("a query by key is bounded by maxMsgsNumBatch alone")
_FILTER = _everywhere("SQL92 filters are not served yet; tags are")
_ACL = _everywhere("access control is not served yet")
_MEMORY = _everywhere("the page cache is the system's; nothing is mapped, warmed or locked")
_FAST_FAILURE = _everywhere(
    "requests are answered in the loop that read them; none waits in a queue"
)
_HISTORY = Idle(
    "consumer offsets are records of the log; see offsetFlushIntervalMs",
    "there is no history of consumer offsets; see flushConsumerOffsetInterval",
)
_NAMESRV = _everywhere("the full topic table goes out with every registration, uncompressed")
_TLS = _everywhere("TLS is not served yet")

# Key -> why it changes nothing.
INERT: dict[str, Idle] = {
    "accessMessageInMemoryMaxRatio": _everywhere(
        "the share is fixed at upstream's 40 percent of the memory"
    ),
    "aclEnable": _ACL,
    "adminBrokerThreadPoolNums": _THREADS,
    "asyncSendEnable": _everywhere("no send blocks a thread while it waits"),
    "brokerFastFailureEnable": _FAST_FAILURE,
    "brokerIP2": _HA,
    "checkTransactionMessageEnable": _TRANSACTION,
    "clientManageThreadPoolQueueCapacity": _QUEUES,
    "clientManageThreadPoolNums": _THREADS,
    "commercialEnable": _everywhere("there are no commercial statistics"),
    "compressedRegister": _NAMESRV,
    "consumerManageThreadPoolNums": _THREADS,
    "consumerManagerThreadPoolQueueCapacity": _QUEUES,
    "defaultQueryMaxNum": _INDEX_QUERY,
    "disableConsumeIfConsumerReadSlowly": _everywhere("a slow consumer is not switched off"),
    "enableBatchPush": Idle("pushes to followers are always batched", _NO_SLAVES),
    "enableCalcFilterBitMap": _FILTER,
    "enableConsumeQueueExt": _FILTER,
    "enableControllerMode": Idle(
        "the group elects its leader itself; there is no controller",
        "there is no controller; a group of conf/dledger elects its leader itself",
    ),
    "enablePropertyFilter": _FILTER,
    "enableSlaveActingMaster": Idle(
        "a group without a leader elects one; no follower acts for it", _NO_SLAVES
    ),
    "endTransactionThreadPoolQueueCapacity": _QUEUES,
    "fastFailIfNoBufferInStorePool": _MEMORY,
    "fetchNamesrvAddrByAddressServer": _everywhere(
        "name servers come from namesrvAddr, -n or NAMESRV_ADDR"
    ),
    "filterServerNums": _everywhere("filter servers ended with 4.x"),
    "filterSupportRetry": _FILTER,
    "flushCommitLogTimed": Idle(
        "a flush is one fdatasync for all that arrived, by flushDiskType",
        "ASYNC_FLUSH always flushes by the clock, SYNC_FLUSH at once",
    ),
    "flushConsumerOffsetHistoryInterval": _HISTORY,
    "flushDelayOffsetInterval": DELAY_NOT_SERVED,
    "forceRegister": _NAMESRV,
    "haHousekeepingInterval": _HA,
    "haMasterAddress": _HA,
    "haSendHeartbeatInterval": _HA,
    "haSlaveFallbehindMax": _HA,
    "haTransferBatchSize": _HA,
    "heartbeatThreadPoolNums": _THREADS,
    "heartbeatThreadPoolQueueCapacity": _QUEUES,
    "highSpeedMode": _everywhere("there is one speed"),
    "litePullMessageEnable": _everywhere("a lite pull is served like any other pull"),
    "litePullMessageThreadPoolNums": _THREADS,
    "mappedFileSizeConsumeQueueExt": _FILTER,
    "messageIndexSafe": _everywhere("a damaged index is always made again from the log"),
    "msgTraceTopicName": _everywhere("the trace topic is RMQ_SYS_TRACE_TOPIC"),
    "offsetCheckInSlave": Idle(
        "a follower never answers 'offset moved' for what it has not yet got", _NO_SLAVES
    ),
    "osPageCacheBusyTimeOutMills": _FAST_FAILURE,
    "processReplyMessageThreadPoolNums": _THREADS,
    "processReplyMessageThreadPoolQueueCapacity": _QUEUES,
    "pullMessageThreadPoolNums": _THREADS,
    "pullThreadPoolQueueCapacity": _QUEUES,
    "queryMessageThreadPoolNums": _THREADS,
    "queryThreadPoolQueueCapacity": _QUEUES,
    "rejectTransactionMessage": _TRANSACTION,
    "rocketmqHome": _everywhere(
        "the home folder only matters to the shell wrappers, as ROCKETMQ_HOME"
    ),
    "sendMessageThreadPoolNums": _THREADS,
    "serverAsyncSemaphoreValue": _THREADS,
    "serverCallbackExecutorThreads": _THREADS,
    "serverChannelMaxIdleTimeSeconds": _everywhere(
        "an idle connection is closed after upstream's 120 s"
    ),
    "serverOnewaySemaphoreValue": _THREADS,
    "serverPooledByteBufAllocatorEnable": _MEMORY,
    "serverSelectorThreads": _THREADS,
    "serverSocketRcvBufSize": _everywhere("the system sizes socket buffers"),
    "serverSocketSndBufSize": _everywhere("the system sizes socket buffers"),
    "serverWorkerThreads": _THREADS,
    "slaveReadEnable": Idle(
        "a follower always serves pulls, of committed messages only", _NO_SLAVES
    ),
    "slaveTimeout": _HA,
    "startAcceptSendRequestTimeStamp": Idle(
        "sends are accepted as soon as there is a ready leader",
        "sends are accepted as soon as the broker has started",
    ),
    "storeReplyMessageEnable": _everywhere("request-reply is not served yet"),
    "timerMaxDelaySec": _TIMER,
    "timerPrecisionMs": _TIMER,
    "timerWheelEnable": _TIMER,
    "tlsTestModeEnable": _TLS,
    "transactionCheckInterval": _TRANSACTION,
    "transactionCheckMax": _TRANSACTION,
    "transactionTimeOut": _TRANSACTION,
    "transferMsgByHeap": _everywhere("messages always pass through memory"),
    "transientStorePoolEnable": _MEMORY,
    "transientStorePoolSize": _MEMORY,
    "useEpollNativeSelector": _THREADS,
    "useReentrantLockWhenPutMessage": _everywhere("appends are in one loop; there is no lock"),
    "useServerSideResetOffset": _everywhere("resetting offsets is not served yet"),
    "useTLS": _TLS,
    "waitTimeMillsInHeartbeatQueue": _FAST_FAILURE,
    "waitTimeMillsInPullQueue": _FAST_FAILURE,
    "waitTimeMillsInSendQueue": _FAST_FAILURE,
    "warmMapedFileEnable": _MEMORY,
}
