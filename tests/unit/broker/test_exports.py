"""config/*.json of a group's broker: written for people, in upstream's form."""

import json
from pathlib import Path

import pytest

from ledgermq.broker.exports import Exports
from ledgermq.broker.metadata import Metadata, OffsetsPut, TopicPut, encode_op

from .fakes import topic


def put(metadata: Metadata, name: str) -> None:
    metadata.apply(metadata.applied_index + 1, 3, encode_op(TopicPut(topic(name))))


async def test_what_changed_is_written_and_the_version_before_kept(tmp_path: Path) -> None:
    metadata = Metadata()
    exports = Exports(tmp_path / "config", metadata)
    exports.start()
    put(metadata, "T")
    metadata.apply(1, 3, encode_op(OffsetsPut({"g": {"T": {0: 9, 3: 1}}})))
    await exports.write()
    put(metadata, "U")
    await exports.close()
    config = tmp_path / "config"
    topics = json.loads((config / "topics.json").read_bytes())
    assert list(topics["topicConfigTable"]) == ["T", "U"]
    assert topics["dataVersion"] == {"counter": 2, "stateVersion": 3, "timestamp": 0}
    before = json.loads((config / "topics.json.bak").read_bytes())
    assert list(before["topicConfigTable"]) == ["T"]
    assert b'\n\t\t"T@g":{"0":9,"3":1\n\t\t}' in (config / "consumerOffset.json").read_bytes()
    assert (config / "subscriptionGroup.json").exists()


async def test_nothing_depends_on_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = Metadata()
    (tmp_path / "config").write_text("in the way")
    exports = Exports(tmp_path / "config", metadata)
    put(metadata, "T")
    await exports.write()
    assert "not exported: " in caplog.text
    assert str(tmp_path / "config" / "topics.json") in caplog.text
    (tmp_path / "config").unlink()
    await exports.write()
    assert (tmp_path / "config" / "topics.json").exists()
    await exports.close()
