"""What Java brokers 4.9.5 and 5.3.3 really sent to their name server, sent to ours."""

import pytest

from ledgermq.remoting.codes import RequestCode as Code
from ledgermq.remoting.codes import ResponseCode
from ledgermq.remoting.headers.broker import RegisterBrokerRequest
from tests.golden.captured import frames
from tests.support import until

REGISTRATIONS = [
    f for f in frames() if f.command.code == Code.REGISTER_BROKER and not f.command.is_response
]


def test_the_captures_hold_every_form_of_a_registration():
    notes = " ".join(f.note for f in REGISTRATIONS)

    assert "binary header" in notes
    assert "compressedRegister=true" in notes, "5.3.3: compressed, and the header denies it"
    assert any(f.command.is_oneway for f in REGISTRATIONS)
    assert any(f.command.ext.get("compressed") == "true" for f in REGISTRATIONS)


@pytest.mark.parametrize("captured", REGISTRATIONS, ids=lambda f: f.name)
async def test_a_captured_registration_is_taken(app, asker, captured):
    command = captured.command
    header = RegisterBrokerRequest.of(command)

    connection = await asker.client.connect(asker.address)
    if command.is_oneway:
        connection.send(command)
    else:
        answer = await connection.request(command, 5000)
        assert answer.code == ResponseCode.SUCCESS, answer.remark

    group = await until(lambda: app.server.table.member_group(header.broker_name))
    assert group.cluster == header.cluster_name
    assert group.broker_addrs == {header.broker_id: header.broker_addr}
    for topic in app.server.table.topics():
        [queues] = app.server.table.route(topic).queue_datas
        assert 0 < queues.write_queue_nums <= 1024
        assert queues.perm in {1, 6, 7}
    assert app.server.table.topics()
