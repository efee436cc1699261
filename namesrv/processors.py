"""Which request a name server answers how, with `RouteTable` and `KvConfig` behind it.

Source of the codes and answers: DefaultRequestProcessor and ClientRequestProcessor of RocketMQ 4.9
and 5.3.
"""

import logging
import zlib
from collections.abc import Callable
from functools import partial

from ledgermq.remoting.bodies.registration import DataVersion, RegisterBrokerBody
from ledgermq.remoting.bodies.route import (
    BrokerMemberGroup,
    BrokerMemberGroupBody,
    KVTable,
    TopicList,
    TopicRouteData,
)
from ledgermq.remoting.codes import RequestCode, ResponseCode
from ledgermq.remoting.command import RemotingCommand, response
from ledgermq.remoting.connection import Connection
from ledgermq.remoting.errors import PeerError
from ledgermq.remoting.headers import broker as broker_headers
from ledgermq.remoting.headers import namesrv as headers
from ledgermq.remoting.headers import topic as topic_headers
from ledgermq.remoting.registry import HandlerResult, ProcessorRegistry

from .config_requests import get_config, update_config
from .kv_config import ORDER_TOPIC_NAMESPACE
from .route_table import DEFAULT_EXPIRY_MS, FLAG_UNIT, FLAG_UNIT_SUB, Registration
from .state import NameServer

log = logging.getLogger(__name__)

_ZLIB_FIRST_BYTE = b"\x78"


def register(registry: ProcessorRegistry, server: NameServer) -> None:
    """Serve every request code of a name server."""

    def add(code: int, handle: Callable[[NameServer, RemotingCommand], HandlerResult]) -> None:
        registry.add(code, lambda _, command: handle(server, command))

    registry.add(RequestCode.REGISTER_BROKER, partial(register_broker, server))
    registry.add(RequestCode.UNREGISTER_BROKER, partial(unregister_broker, server))
    add(RequestCode.QUERY_DATA_VERSION, query_data_version)
    add(RequestCode.GET_ROUTEINFO_BY_TOPIC, route)
    add(RequestCode.GET_BROKER_CLUSTER_INFO, cluster_info)
    add(RequestCode.GET_BROKER_MEMBER_GROUP, member_group)
    add(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, all_topics)
    add(RequestCode.GET_TOPICS_BY_CLUSTER, topics_by_cluster)
    add(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS, system_topics)
    add(RequestCode.GET_UNIT_TOPIC_LIST, unit_topics)
    add(RequestCode.GET_HAS_UNIT_SUB_TOPIC_LIST, unit_sub_topics)
    add(RequestCode.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, unit_sub_not_unit_topics)
    add(RequestCode.WIPE_WRITE_PERM_OF_BROKER, wipe_write_perm)
    add(RequestCode.ADD_WRITE_PERM_OF_BROKER, add_write_perm)
    add(RequestCode.DELETE_TOPIC_IN_NAMESRV, delete_topic)
    add(RequestCode.REGISTER_TOPIC_IN_NAMESRV, register_topic)
    add(RequestCode.GET_KV_CONFIG, get_kv)
    add(RequestCode.GET_KVLIST_BY_NAMESPACE, list_kv)
    add(RequestCode.PUT_KV_CONFIG, put_kv)
    add(RequestCode.DELETE_KV_CONFIG, delete_kv)
    add(RequestCode.GET_NAMESRV_CONFIG, get_config)
    add(RequestCode.UPDATE_NAMESRV_CONFIG, update_config)


# --- brokers --------------------------------------------------------------------------------------


def register_broker(
    server: NameServer, connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """103: a broker says where it is and, as leader, which topics it has."""
    header = broker_headers.RegisterBrokerRequest.of(command)
    # 0 is upstream's word for "not computed".
    if header.body_crc32 and zlib.crc32(command.body) & 0x7FFFFFFF != header.body_crc32:
        raise PeerError(ResponseCode.SYSTEM_ERROR, "crc32 not match")
    outcome = server.table.register(
        _registration(header, connection, command),
        server.now_ms(),
        drop_missing_topics=server.config.delete_topic_with_broker_registration,
    )
    name, addr = header.broker_name, header.broker_addr
    if not outcome.accepted:
        remark = f"ignored: a live leader of a higher term holds id 0 of {name}, not {addr}"
        log.warning("registration %s", remark)
        return response(ResponseCode.SUCCESS, remark)
    if outcome.first:
        log.info("broker registered: broker=%s id=%d addr=%s", name, header.broker_id, addr)
    if outcome.topics_refused:
        log.warning(
            "%d topics of broker=%s left out, the table is full: raise maxTopics (%d)",
            outcome.topics_refused,
            name,
            server.config.max_topics,
        )
    ext = broker_headers.RegisterBrokerResponse(
        master_addr=outcome.master_addr or None,
        ha_server_addr=outcome.master_ha_addr or None,
    ).to_ext()
    return response(ResponseCode.SUCCESS, None, ext, _order_topics(server))


def _registration(
    header: broker_headers.RegisterBrokerRequest, connection: Connection, command: RemotingCommand
) -> Registration:
    if not header.broker_name or ":" not in header.broker_addr:
        raise PeerError(
            ResponseCode.SYSTEM_ERROR,
            f"register broker failed: name {header.broker_name!r}, address"
            f" {header.broker_addr!r}; an address is host:port",
        )
    body = _registration_body(header, command)
    topics = body.topic_config_serialize_wrapper
    return Registration(
        cluster=header.cluster_name,
        broker_name=header.broker_name,
        broker_id=header.broker_id,
        addr=header.broker_addr,
        session=connection,
        ha_addr=header.ha_server_addr,
        expiry_ms=header.heartbeat_timeout_millis or DEFAULT_EXPIRY_MS,
        enable_acting_master=header.enable_acting_master,
        version=topics.data_version,
        topics=topics.topic_config_table,
    )


def _registration_body(
    header: broker_headers.RegisterBrokerRequest, command: RemotingCommand
) -> RegisterBrokerBody:
    if not command.body:
        return RegisterBrokerBody()
    # A 5.3 broker with compressedRegister=true says compressed=false; no JSON begins with an x.
    if header.compressed or command.body[:1] == _ZLIB_FIRST_BYTE:
        return RegisterBrokerBody.decode_compressed(command.body, command.version)
    return RegisterBrokerBody.decode(command.body)


def _order_topics(server: NameServer) -> bytes:
    if not server.config.return_order_topic_config_to_broker:
        return b""
    pairs = server.kv.namespace(ORDER_TOPIC_NAMESPACE)
    return KVTable(table=pairs).encode() if pairs else b""


def unregister_broker(
    server: NameServer, connection: Connection, command: RemotingCommand
) -> RemotingCommand:
    """104: a broker says goodbye; one that is not entered is no error."""
    header = broker_headers.UnregisterBrokerRequest.of(command)
    if server.table.unregister(header.broker_name, header.broker_addr, connection):
        log.info(
            "broker gone, unregistered: broker=%s id=%d addr=%s",
            header.broker_name,
            header.broker_id,
            header.broker_addr,
        )
    return response(ResponseCode.SUCCESS)


def query_data_version(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """322: must the broker send its topics again? Also a sign of life."""
    header = broker_headers.QueryDataVersionRequest.of(command)
    changed, stored = server.table.query_version(
        header.broker_addr, DataVersion.decode(command.body), server.now_ms()
    )
    ext = broker_headers.QueryDataVersionResponse(changed=changed).to_ext()
    return response(ResponseCode.SUCCESS, None, ext, stored.encode() if stored else b"")


# --- routes ---------------------------------------------------------------------------------------


def route(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """105: where a topic's queues are."""
    topic = headers.RouteRequest.of(command).topic
    config = server.config
    ready_ms = server.started_ms + config.wait_seconds_for_service * 1000
    if config.need_wait_for_service and server.now_ms() < ready_ms:
        raise PeerError(ResponseCode.SYSTEM_ERROR, "name server not ready")
    order = server.kv.get(ORDER_TOPIC_NAMESPACE, topic) if config.order_message_enable else None
    body = server.routes.get(topic, order)
    if body is None:
        raise PeerError(
            ResponseCode.TOPIC_NOT_EXIST,
            f"No topic route info in name server for the topic: {topic}",
        )
    return response(ResponseCode.SUCCESS, body=body)


def cluster_info(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """106: every broker."""
    return response(ResponseCode.SUCCESS, body=server.table.cluster_info().encode())


def member_group(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """901: the addresses of one broker name; none if there is no such broker."""
    header = headers.BrokerMemberGroupRequest.of(command)
    found = server.table.member_group(header.broker_name)
    body = BrokerMemberGroupBody(
        broker_member_group=BrokerMemberGroup(
            cluster=header.cluster_name,
            broker_name=header.broker_name,
            broker_addrs=found.broker_addrs if found else {},
        )
    )
    return response(ResponseCode.SUCCESS, body=body.encode())


# --- topics ---------------------------------------------------------------------------------------


def all_topics(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """206: the names of all topics."""
    if not server.config.enable_all_topic_list:
        raise PeerError(ResponseCode.SYSTEM_ERROR, "disable")
    return _topic_list(server.table.topics())


def topics_by_cluster(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """224: the names of one cluster's topics."""
    _refuse_if_lists_are_off(server)
    cluster = headers.TopicsByClusterRequest.of(command).cluster
    return _topic_list(server.table.topics_of_cluster(cluster))


def system_topics(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """304: names of clusters and brokers, and one broker to ask for its own system topics."""
    _refuse_if_lists_are_off(server)
    names, addr = server.table.system_topics()
    return _topic_list(names, addr)


def unit_topics(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """311: topics with the unit flag."""
    _refuse_if_lists_are_off(server)
    return _topic_list(server.table.topics_with_flags(FLAG_UNIT))


def unit_sub_topics(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """312: topics with the unit-subscription flag."""
    _refuse_if_lists_are_off(server)
    return _topic_list(server.table.topics_with_flags(FLAG_UNIT_SUB))


def unit_sub_not_unit_topics(server: NameServer, _command: RemotingCommand) -> RemotingCommand:
    """313: topics with the unit-subscription flag and without the unit flag."""
    _refuse_if_lists_are_off(server)
    return _topic_list(server.table.topics_with_flags(FLAG_UNIT_SUB, lacks=FLAG_UNIT))


def _refuse_if_lists_are_off(server: NameServer) -> None:
    if not server.config.enable_topic_list:
        raise PeerError(ResponseCode.SYSTEM_ERROR, "disable")


def _topic_list(names: list[str], broker_addr: str = "") -> RemotingCommand:
    body = TopicList(topic_list=names, broker_addr=broker_addr or None)
    return response(ResponseCode.SUCCESS, body=body.encode())


# --- an operator's changes ------------------------------------------------------------------------


def wipe_write_perm(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """205: clients stop sending to a broker."""
    name = headers.BrokerNameRequest.of(command).broker_name
    count = server.table.wipe_write_perm(name)
    log.info("write permission taken: broker=%s topics=%d", name, count)
    ext = headers.WipeWritePermResponse(wipe_topic_count=count).to_ext()
    return response(ResponseCode.SUCCESS, None, ext)


def add_write_perm(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """327: clients may send to a broker again."""
    name = headers.BrokerNameRequest.of(command).broker_name
    count = server.table.add_write_perm(name)
    log.info("write permission given: broker=%s topics=%d", name, count)
    ext = headers.AddWritePermResponse(add_topic_count=count).to_ext()
    return response(ResponseCode.SUCCESS, None, ext)


def delete_topic(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """216: forget a topic; one that is not there is no error."""
    header = topic_headers.DeleteTopicInNamesrvRequest.of(command)
    if server.table.delete_topic(header.topic, header.cluster_name or ""):
        log.info("topic deleted: topic=%s cluster=%s", header.topic, header.cluster_name or "all")
    return response(ResponseCode.SUCCESS)


def register_topic(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """217: enter a topic by hand."""
    topic = topic_headers.TopicRequest.of(command).topic
    if command.body:
        data = TopicRouteData.decode(command.body)
        count = server.table.register_topic(topic, data.queue_datas)
        log.info("topic entered by hand: topic=%s brokers=%d", topic, count)
    return response(ResponseCode.SUCCESS)


# --- key-value pairs ------------------------------------------------------------------------------


def get_kv(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """101: one value."""
    header = headers.KVConfigRequest.of(command)
    value = server.kv.get(header.namespace, header.key)
    if value is None:
        raise PeerError(
            ResponseCode.QUERY_NOT_FOUND,
            f"No config item, Namespace: {header.namespace} Key: {header.key}",
        )
    return response(ResponseCode.SUCCESS, None, headers.GetKVConfigResponse(value=value).to_ext())


def list_kv(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """219: all pairs of a namespace."""
    namespace = headers.KVNamespaceRequest.of(command).namespace
    pairs = server.kv.namespace(namespace)
    if not pairs:
        raise PeerError(ResponseCode.QUERY_NOT_FOUND, f"No config item, Namespace: {namespace}")
    return response(ResponseCode.SUCCESS, body=KVTable(table=pairs).encode())


async def put_kv(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """100: set a pair; answered when it is on disk."""
    header = headers.PutKVConfigRequest.of(command)
    await server.kv.put(header.namespace, header.key, header.value)
    return response(ResponseCode.SUCCESS)


async def delete_kv(server: NameServer, command: RemotingCommand) -> RemotingCommand:
    """102: drop a pair; one that is not there is no error."""
    header = headers.KVConfigRequest.of(command)
    await server.kv.delete(header.namespace, header.key)
    return response(ResponseCode.SUCCESS)
