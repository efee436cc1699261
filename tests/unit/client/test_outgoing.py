"""From arguments to what travels."""

import zlib

import pytest

from ledgermq.client.errors import InvalidArgument
from ledgermq.client.outgoing import (
    COMPRESS_FROM_BYTES,
    MAX_BODY_BYTES,
    check_group,
    check_topic,
    make_message,
    prepare,
)
from ledgermq.remoting.message import Message, decode_properties


def made(topic="T", body=b"x", **kwargs):
    arguments = {"tag": None, "keys": None, "properties": None, "delay_level": 0} | kwargs
    return make_message(topic, body, **arguments)


class TestMakeMessage:
    def test_parts(self):
        m = made("T", b"hi", tag="A", keys=["k1", "k2"], properties={"p": "v"}, delay_level=3)
        assert m == Message("T", b"hi", "A", ["k1", "k2"], {"p": "v"}, 0, 3)

    def test_text_becomes_utf8(self):
        assert made(body="你好").body == "你好".encode()

    def test_bytearray_is_taken_as_it_is_now(self):
        body = bytearray(b"ab")
        m = made(body=body)
        body[0] = 0
        assert m.body == b"ab"

    def test_one_key_as_text(self):
        assert made(keys="order-7").keys == ["order-7"]

    def test_a_whole_message(self):
        whole = Message("T", b"hi", tag="A")
        assert made(whole, None) is whole
        assert made("ignored", whole) is whole

    @pytest.mark.parametrize(
        "extra", [{"tag": "A"}, {"keys": "k"}, {"properties": {"a": "b"}}, {"delay_level": 1}]
    )
    def test_a_whole_message_and_parts_are_too_much(self, extra):
        with pytest.raises(InvalidArgument, match="its own"):
            made(Message("T", b"hi"), None, **extra)

    def test_no_body(self):
        with pytest.raises(InvalidArgument, match="without a body"):
            made(body=None)


class TestPrepare:
    def test_properties(self):
        m = Message("T", b"x", tag="A", keys=["k1", "k2"], properties={"p": "v"}, delay_level=3)
        assert decode_properties(prepare(m, "ID1").properties) == {
            "TAGS": "A",
            "KEYS": "k1 k2",
            "DELAY": "3",
            "UNIQ_KEY": "ID1",
            "WAIT": "true",
            "p": "v",
        }

    def test_plain_message_has_id_and_wait_only(self):
        out = prepare(Message("T", b"x"), "ID1")
        assert decode_properties(out.properties) == {"UNIQ_KEY": "ID1", "WAIT": "true"}
        assert (out.topic, out.body, out.sys_flag, out.flag, out.msg_id) == ("T", b"x", 0, 0, "ID1")

    def test_flag_travels(self):
        assert prepare(Message("T", b"x", flag=9), "i").flag == 9

    def test_small_bodies_stay_plain(self):
        body = b"x" * (COMPRESS_FROM_BYTES - 1)
        assert prepare(Message("T", body), "i").body == body

    def test_large_bodies_are_compressed_and_say_so(self):
        body = b"x" * COMPRESS_FROM_BYTES
        out = prepare(Message("T", body), "i")
        assert zlib.decompress(out.body) == body
        assert out.sys_flag == 0x301

    def test_compression_can_be_left_out(self):
        body = b"x" * COMPRESS_FROM_BYTES
        out = prepare(Message("T", body), "i", compress=False)
        assert (out.body, out.sys_flag) == (body, 0)

    @pytest.mark.parametrize(
        ("message", "words"),
        [
            pytest.param(Message("T", b""), "empty body", id="no body"),
            pytest.param(
                Message("T", b"x" * (MAX_BODY_BYTES + 1)), "over the limit", id="body too large"
            ),
            pytest.param(Message("a b", b"x"), "no topic name", id="topic"),
            pytest.param(
                Message("T", b"x", properties={"UNIQ_KEY": "1"}), "UNIQ_KEY", id="reserved name"
            ),
            pytest.param(
                Message("T", b"x", properties={"TAGS": "1"}),
                "argument made for it",
                id="tag as name",
            ),
            pytest.param(
                Message("T", b"x", properties={"a": "b\x02c"}), "separate", id="separator in value"
            ),
            pytest.param(Message("T", b"x", tag="a\x01"), "separate", id="separator in tag"),
            pytest.param(Message("T", b"x", keys=["a b"]), "blank", id="blank in key"),
            pytest.param(Message("T", b"x", keys=[""]), "blank", id="empty key"),
            pytest.param(
                Message("T", b"x", properties={"a": "y" * 32768}), "over the limit", id="too long"
            ),
            pytest.param(
                Message("T", b"x", properties={"a": "汉" * 11000}),
                "over the limit",
                id="too long in UTF-8",
            ),
        ],
    )
    def test_what_no_broker_takes(self, message, words):
        with pytest.raises(InvalidArgument, match=words):
            prepare(message, "i")

    def test_properties_just_below_the_limit(self):
        prepare(Message("T", b"x", properties={"a": "汉" * 10900}), "i")


@pytest.mark.parametrize("name", ["T", "a-b_C%1|x", "%RETRY%g", "x" * 127])
def test_topic_names(name):
    check_topic(name)


@pytest.mark.parametrize("name", ["", "a b", "中文", "a/b", "a.b", "x" * 128, "a\n"])
def test_bad_topic_names(name):
    with pytest.raises(InvalidArgument, match="no topic name"):
        check_topic(name)


@pytest.mark.parametrize("name", ["", "a b", "x" * 121])
def test_bad_group_names(name):
    with pytest.raises(InvalidArgument, match="no group name"):
        check_group(name)


def test_group_name():
    check_group("please_rename_unique_group_name_4")
