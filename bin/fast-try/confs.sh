# shellcheck shell=sh
# The configuration files that fast-try.sh writes. Sourced by it.

write_conf() {
    describe "$1"
    case $1 in
    namesrv) namesrv_conf ;;
    broker-*) master_conf ;;
    *) member_conf ;;
    esac >"$conf" || exit "$EXIT_FAILED"
}

namesrv_conf() {
    cat <<END
# Written by fast-try.sh at each start.
listenPort=$port
kvConfigPath=$STORE_ROOT/namesrv/kvConfig.json
configStorePath=$STORE_ROOT/namesrv/namesrv.properties
END
}

# A broker without a group. The same keys as in conf/single and conf/2m-noslave.
master_conf() {
    broker_conf DefaultCluster
    cat <<END
brokerId=0
brokerRole=ASYNC_MASTER
flushDiskType=ASYNC_FLUSH
deleteWhen=04
fileReservedTime=48
END
    extra_conf
}

# A member of a group. The same keys as in conf/dledger.
member_conf() {
    broker_conf RaftCluster
    cat <<END
enableDLegerCommitLog=true
dLegerGroup=$group
dLegerPeers=$(peers)
dLegerSelfId=$self
flushDiskType=SYNC_FLUSH
END
    extra_conf
}

# broker_conf CLUSTER: what every broker has.
broker_conf() {
    cat <<END
# Written by fast-try.sh at each start; EXTRA_CONF adds lines.
brokerClusterName=$1
brokerName=$group
brokerIP1=$HOST
listenPort=$port
namesrvAddr=$HOST:$NAMESRV_PORT
storePathRootDir=$store
END
}

extra_conf() {
    if [ -n "${EXTRA_CONF:-}" ]; then say "$EXTRA_CONF"; fi
}

peers() {
    for place in 0 1 2; do
        printf 'n%s-%s:%s' "$place" "$HOST" "$((DLEDGER_PORT + first + place))"
        [ "$place" = 2 ] || printf ';'
    done
}
