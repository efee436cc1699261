"""The metadata state machine: same records, same state; nothing guessed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledgermq.broker.metadata import (
    PAYLOAD_VERSION,
    Change,
    ChangeKind,
    GroupDelete,
    GroupPut,
    LogBegin,
    Metadata,
    MetadataError,
    Noop,
    OffsetsPut,
    Op,
    TopicDelete,
    TopicPut,
    encode_op,
)
from ledgermq.remoting.bodies.group import (
    ConsumerOffsetTable,
    SubscriptionGroupConfig,
    SubscriptionGroupTable,
)
from ledgermq.remoting.bodies.registration import TopicConfigSerializeWrapper
from ledgermq.remoting.errors import StorageError

from .fakes import topic


def applied(*ops: Op, first_index: int = 0) -> Metadata:
    metadata = Metadata()
    for index, op in enumerate(ops, start=first_index):
        metadata.apply(index, 1, encode_op(op))
    return metadata


def group(name: str, **settings: Any) -> SubscriptionGroupConfig:
    return SubscriptionGroupConfig(group_name=name, **settings)


def test_an_empty_state() -> None:
    metadata = Metadata()
    assert metadata.applied_index == -1
    assert metadata.offset("g", "T", 0) is None
    assert metadata.creation_index("T") is None
    assert metadata.offsets_of("g") == {}
    assert metadata.groups_with_offsets("T") == []


def test_a_topic_keeps_the_index_of_its_creation() -> None:
    metadata = Metadata()
    assert metadata.apply(3, 1, encode_op(TopicPut(topic("T", 4)))) == Change(
        ChangeKind.TOPIC_CREATED, "T"
    )
    assert metadata.apply(5, 1, encode_op(TopicPut(topic("T", 8)))) == Change(
        ChangeKind.TOPIC_UPDATED, "T"
    )
    assert metadata.creation_index("T") == 3
    assert metadata.topics["T"].write_queue_nums == 8
    assert metadata.topic_version == 2


def test_a_topic_created_again_has_a_new_creation_index_and_no_offsets() -> None:
    metadata = applied(
        TopicPut(topic("T")),
        TopicPut(topic("U")),
        OffsetsPut({"g": {"T": {0: 9}}, "h": {"T": {1: 8}, "U": {0: 7}}}),
        TopicDelete("T"),
        TopicPut(topic("T")),
    )
    assert metadata.creation_index("T") == 4
    assert metadata.offset("g", "T", 0) is None
    assert metadata.offset("h", "U", 0) == 7
    assert metadata.groups_with_offsets("T") == []
    assert metadata.groups_with_offsets("U") == ["h"]
    assert metadata.topic_version == 4


def test_deleting_what_is_not_there_changes_nothing() -> None:
    metadata = Metadata()
    assert metadata.apply(0, 1, encode_op(TopicDelete("T"))) is None
    assert metadata.apply(1, 1, encode_op(GroupDelete("g", clean_offsets=True))) is None
    assert metadata.apply(2, 1, encode_op(GroupDelete("g", clean_offsets=False))) is None
    assert (metadata.topic_version, metadata.group_version) == (0, 0)
    assert metadata.applied_index == 2


@pytest.mark.parametrize(
    ("clean", "offset"),
    [pytest.param(True, None, id="with its offsets"), pytest.param(False, 9, id="without")],
)
def test_deleting_a_group(clean: bool, offset: int | None) -> None:
    metadata = applied(
        GroupPut(group("g", retry_max_times=3)),
        TopicPut(topic("T")),
        OffsetsPut({"g": {"T": {0: 9}}}),
    )
    assert metadata.groups["g"].retry_max_times == 3
    change = metadata.apply(3, 1, encode_op(GroupDelete("g", clean_offsets=clean)))
    assert change == Change(ChangeKind.GROUP_DELETED, "g")
    assert metadata.groups == {}
    assert metadata.offset("g", "T", 0) == offset


def test_deleting_the_offsets_of_a_group_without_settings() -> None:
    metadata = applied(TopicPut(topic("T")), OffsetsPut({"g": {"T": {0: 9}}}))
    change = metadata.apply(2, 1, encode_op(GroupDelete("g", clean_offsets=True)))
    assert change == Change(ChangeKind.GROUP_DELETED, "g")
    assert metadata.offset("g", "T", 0) is None


def test_offsets_move_queue_by_queue_and_may_go_back() -> None:
    metadata = applied(
        TopicPut(topic("T")),
        OffsetsPut({"g": {"T": {0: 9, 1: 5}}}),
        OffsetsPut({"g": {"T": {0: 4}}}),
    )
    assert metadata.offsets_of("g") == {"T": {0: 4, 1: 5}}
    assert metadata.offset_version == 2


def test_offsets_of_a_deleted_topic_are_dropped() -> None:
    metadata = applied(TopicPut(topic("T")))
    assert metadata.apply(1, 1, encode_op(OffsetsPut({"g": {"gone": {0: 1}, "T": {}}}))) is None
    assert metadata.offsets_of("g") == {}
    assert metadata.offset_version == 0


def test_a_noop_names_the_leader() -> None:
    metadata = Metadata()
    assert metadata.apply(0, 4, encode_op(Noop(4, "n2"))) == Change(ChangeKind.NOOP, "n2")
    assert (metadata.leader, metadata.applied_term) == ("n2", 4)


def test_a_record_is_applied_once() -> None:
    metadata = applied(TopicPut(topic("T")), TopicDelete("T"))
    before = metadata.fingerprint()
    assert metadata.apply(0, 1, encode_op(TopicPut(topic("T")))) is None
    assert metadata.apply(1, 1, encode_op(TopicPut(topic("T")))) is None
    assert metadata.fingerprint() == before


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        pytest.param(b"", "record 7 is empty", id="empty"),
        pytest.param(bytes((PAYLOAD_VERSION + 1,)), "record 7 has version 2", id="version"),
        pytest.param(bytes((PAYLOAD_VERSION,)), "record 7 is damaged", id="no operation"),
        pytest.param(encode_op(TopicDelete("T"))[:-1], "record 7 is damaged", id="cut short"),
        pytest.param(encode_op(TopicDelete("T")) + b"x", "record 7 is damaged", id="too long"),
        pytest.param(
            bytes((PAYLOAD_VERSION,)) + msgspec.msgpack.encode(["topic.rename", "a", "b"]),
            "record 7 is damaged",
            id="unknown operation",
        ),
        pytest.param(
            bytes((PAYLOAD_VERSION,)) + msgspec.msgpack.encode(["topic.delete", 5]),
            "record 7 is damaged",
            id="wrong type",
        ),
        pytest.param(
            bytes((PAYLOAD_VERSION,)) + msgspec.msgpack.encode(["topic.delete", "T", "more"]),
            "record 7 is damaged",
            id="more than known",
        ),
    ],
)
def test_what_cannot_be_read_stops_the_node(payload: bytes, says: str) -> None:
    metadata = applied(TopicPut(topic("T")))
    before = metadata.fingerprint()
    with pytest.raises(MetadataError, match=says) as e:
        metadata.apply(7, 1, payload)
    assert isinstance(e.value, StorageError)
    assert metadata.fingerprint() == before


def test_terms_never_fall() -> None:
    metadata = Metadata()
    metadata.apply(0, 5, encode_op(Noop(5, "n0")))
    with pytest.raises(MetadataError, match="record 1 has term 4 after term 5"):
        metadata.apply(1, 4, encode_op(Noop(4, "n1")))


# --- replicas ---------------------------------------------------------------------------------

NAMES = st.sampled_from(["A", "B", "%RETRY%g"])
GROUPS = st.sampled_from(["g", "h"])
OPS = st.one_of(
    st.builds(Noop, st.integers(1, 9), st.sampled_from(["n0", "n1"])),
    st.builds(lambda n, q: TopicPut(topic(n, q)), NAMES, st.integers(1, 16)),
    st.builds(TopicDelete, NAMES),
    st.builds(lambda n, r: GroupPut(group(n, retry_max_times=r)), GROUPS, st.integers(0, 16)),
    st.builds(GroupDelete, GROUPS, st.booleans()),
    st.builds(LogBegin, st.just(0)),
    st.builds(
        OffsetsPut,
        st.dictionaries(
            GROUPS,
            st.dictionaries(
                NAMES, st.dictionaries(st.integers(0, 3), st.integers(0, 2**62), max_size=3)
            ),
        ),
    ),
)


@given(st.lists(OPS, max_size=30), st.integers(0, 30))
def test_replicas_that_apply_the_same_are_equal(ops: list[Op], again_from: int) -> None:
    first, second = applied(*ops), applied(*ops)
    for index, op in enumerate(ops[again_from:], start=again_from):
        second.apply(index, 1, encode_op(op))
    assert first.fingerprint() == second.fingerprint()


@given(st.lists(OPS, min_size=1, max_size=10))
def test_a_replica_that_lags_differs(ops: list[Op]) -> None:
    assert applied(*ops).fingerprint() != applied(*ops[:-1]).fingerprint()


# --- dumps ------------------------------------------------------------------------------------


@given(st.lists(OPS, max_size=30), st.integers(0, 30))
def test_a_dump_and_the_tail_give_the_state_of_all_records(ops: list[Op], cut: int) -> None:
    restored = Metadata()
    restored.restore(applied(*ops[:cut]).dump())
    for index, op in enumerate(ops[cut:], start=min(cut, len(ops))):
        restored.apply(index, 1, encode_op(op))
    whole = applied(*ops)
    assert restored.fingerprint() == whole.fingerprint()
    for name in whole.topics:
        assert restored.creation_index(name) == whole.creation_index(name)
    assert restored.export_offsets() == whole.export_offsets()


def test_a_topic_deleted_and_created_again_around_a_dump() -> None:
    first = applied(TopicPut(topic("T")), OffsetsPut({"g": {"T": {0: 9}}}), TopicDelete("T"))
    second = Metadata()
    second.restore(first.dump())
    for metadata in (first, second):
        metadata.apply(3, 2, encode_op(TopicPut(topic("T", 1))))
        assert metadata.creation_index("T") == 3
        assert metadata.offset("g", "T", 0) is None
    assert first.fingerprint() == second.fingerprint()


def test_a_dump_replaces_what_was_there() -> None:
    metadata = applied(TopicPut(topic("Old")), GroupPut(group("old")), LogBegin(1))
    metadata.restore(Metadata().dump())
    assert metadata.fingerprint() == Metadata().fingerprint()
    assert metadata.topics == metadata.groups == {}


def test_a_dump_is_of_its_moment_and_comes_in_short_pieces() -> None:
    metadata = applied(*(TopicPut(topic(f"T{n}")) for n in range(450)))
    moved = {f"g{n}": {f"T{t}": {0: t, 1: n} for t in range(450)} for n in range(3)}
    metadata.apply(450, 1, encode_op(OffsetsPut(moved)))
    before = metadata.fingerprint()
    slices = metadata.dump_slices()
    data = next(slices)
    metadata.apply(451, 1, encode_op(OffsetsPut({"g0": {"T0": {0: 999}}})))
    metadata.apply(452, 1, encode_op(TopicDelete("T1")))
    metadata.apply(453, 1, encode_op(TopicPut(topic("T2", 9))))
    parts = list(slices)
    assert len(parts) == 1 + 3 + 3 * 3
    restored = Metadata()
    restored.restore(data + b"".join(parts))
    assert restored.fingerprint() == before
    assert restored.offsets_of("g2") == moved["g2"]


def test_a_newer_dump_is_refused_and_changes_nothing() -> None:
    metadata = applied(TopicPut(topic("T")))
    before = metadata.fingerprint()
    for data, says in (
        (b"\x02" + metadata.dump()[1:], "version 2; .*Install the newer ledgermq"),
        (b"", "version none"),
        (metadata.dump()[:-1], "is damaged: .*Move this node's store away"),
        (bytes((1, 0x90)), "is damaged"),
        (bytes((1,)) + msgspec.msgpack.encode([["topics", []]]), "its head is missing"),
    ):
        with pytest.raises(MetadataError, match=says):
            metadata.restore(data)
    assert metadata.fingerprint() == before


# --- the log's begin --------------------------------------------------------------------------


def test_the_begin_of_the_log_only_rises() -> None:
    metadata = applied(*(Noop(1, "n0") for _ in range(9)))
    before = metadata.fingerprint()
    assert metadata.apply(9, 1, encode_op(LogBegin(5))) == Change(ChangeKind.LOG_BEGIN)
    assert metadata.log_begin == 5
    assert metadata.apply(10, 1, encode_op(LogBegin(5))) is None
    assert metadata.apply(11, 1, encode_op(LogBegin(3))) is None
    assert metadata.log_begin == 5
    assert metadata.apply(12, 1, encode_op(LogBegin(12))) == Change(ChangeKind.LOG_BEGIN)
    assert metadata.fingerprint() != before
    with pytest.raises(MetadataError, match="record 13 lets the log begin at 14"):
        metadata.apply(13, 1, encode_op(LogBegin(14)))


def test_which_topic_a_record_would_create() -> None:
    metadata = applied(TopicPut(topic("T")))
    assert metadata.topic_made_by(encode_op(TopicPut(topic("U")))) == "U"
    assert metadata.topic_made_by(encode_op(TopicPut(topic("T")))) is None
    assert metadata.topic_made_by(encode_op(TopicDelete("T"))) is None


def test_the_order_of_growth_does_not_show() -> None:
    one = applied(TopicPut(topic("T")), OffsetsPut({"g": {"T": {0: 1, 1: 2}}, "h": {"T": {0: 1}}}))
    other = applied(
        TopicPut(topic("T")), OffsetsPut({"h": {"T": {0: 1}}, "g": {"T": {1: 2, 0: 1}}})
    )
    assert one.fingerprint() == other.fingerprint()


# --- exports ----------------------------------------------------------------------------------


def test_exports_are_upstreams_documents() -> None:
    metadata = applied(
        TopicPut(topic("T")), GroupPut(group("g")), OffsetsPut({"g": {"T": {0: 9, 3: 1}}})
    )
    topics = TopicConfigSerializeWrapper.decode(metadata.export_topics())
    assert topics.topic_config_table == {"T": topic("T")}
    assert (topics.data_version.counter, topics.data_version.state_version) == (1, 1)
    assert metadata.group_table() == SubscriptionGroupTable(
        subscription_group_table={"g": group("g")}, data_version=metadata.version_of(1)
    )
    assert b'"T@g":{"0":9,"3":1}' in metadata.export_offsets()
    offsets = ConsumerOffsetTable.decode(metadata.export_offsets())
    assert offsets.offset_table == {"T@g": {0: 9, 3: 1}}


def test_a_table_is_of_its_moment() -> None:
    metadata = applied(TopicPut(topic("T")), GroupPut(group("g")), OffsetsPut({"g": {"T": {0: 9}}}))
    tables = (metadata.topic_table(), metadata.group_table(), metadata.offset_table())
    before = [table.encode() for table in tables]
    ops: list[Op] = [
        OffsetsPut({"g": {"T": {0: 10}}}),
        TopicDelete("T"),
        GroupDelete("g", clean_offsets=True),
    ]
    for index, op in enumerate(ops, start=3):
        metadata.apply(index, 1, encode_op(op))
    assert [table.encode() for table in tables] == before


def test_what_files_held_is_adopted_and_goes_on() -> None:
    metadata = applied(TopicPut(topic("Old")), GroupPut(group("old")), LogBegin(1), Noop(1, "n0"))
    metadata.adopt(
        [topic("T", 4)], [group("g")], {"g": {"T": {0: 9}, "gone": {0: 1}}}, (7, 8, 9), 1234
    )
    assert (metadata.applied_index, metadata.applied_term) == (-1, 0)
    assert (metadata.leader, metadata.log_begin) == ("", 0)
    assert list(metadata.topics) == ["T"]
    assert list(metadata.groups) == ["g"]
    assert metadata.offsets_of("g") == {"T": {0: 9}}
    assert metadata.creation_index("T") == -1
    assert metadata.creation_index("Old") is None
    change = metadata.apply(0, 0, encode_op(TopicPut(topic("U"))))
    assert change == Change(ChangeKind.TOPIC_CREATED, "U")
    metadata.apply(1, 0, encode_op(OffsetsPut({"g": {"U": {0: 1}}})))
    metadata.apply(2, 0, encode_op(GroupDelete("g", clean_offsets=False)))
    assert (metadata.topic_version, metadata.group_version, metadata.offset_version) == (8, 9, 10)
    version = metadata.version_of(metadata.topic_version)
    assert (version.counter, version.timestamp, version.state_version) == (8, 1234, 0)


def test_offsets_of_is_a_copy() -> None:
    metadata = applied(TopicPut(topic("T")), OffsetsPut({"g": {"T": {0: 9}}}))
    metadata.offsets_of("g")["T"][0] = 1
    assert metadata.offset("g", "T", 0) == 9
