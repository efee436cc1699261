"""namesrv.conf: what is read, what is refused, and how it is said."""

import pytest

from ledgermq.namesrv import config as configuration
from ledgermq.namesrv.config import INERT, NamesrvConfig, load, rewrite
from ledgermq.namesrv.errors import ConfigError


def write(tmp_path, text):
    path = tmp_path / "namesrv.conf"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_upstreams():
    items = NamesrvConfig().items()

    assert items["listenPort"] == "9876"
    assert items["kvConfigPath"] == "~/namesrv/kvConfig.json"
    assert items["configStorePath"] == "~/namesrv/namesrv.properties"
    assert items["orderMessageEnable"] == "false"
    assert items["returnOrderTopicConfigToBroker"] == "true"
    assert items["scanNotActiveBrokerInterval"] == "5000"
    assert items["enableAllTopicList"] == "true"
    assert items["configBlackList"] == "configBlackList;configStorePath;kvConfigPath"
    assert list(items) == sorted(items)


def test_a_file_as_people_write_them(tmp_path):
    path = write(
        tmp_path,
        "\ufeff# 注释\n! too\n\nlistenPort = 9877  \norderMessageEnable=TRUE\n"
        f"kvConfigPath = {tmp_path}/我的 kv.json \n",
    )

    config, warnings = load(path)

    assert warnings == []
    assert config.listen_port == 9877
    assert config.order_message_enable is True
    assert config.path("kvConfigPath") == tmp_path / "我的 kv.json"
    assert config.config_store_path == str(path), "318 changes the file it was started with"


def test_a_home_folder_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    assert NamesrvConfig().path("kvConfigPath") == tmp_path / "namesrv" / "kvConfig.json"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        pytest.param(
            "listenPort = nine", "listenPort is 'nine'; write a whole number", id="no number"
        ),
        pytest.param("listenPort = 70000", "from 0 to 65535 .default 9876.", id="too large"),
        pytest.param("listenPort = -1", "from 0 to 65535", id="negative"),
        pytest.param("listenPort = 1_0", "write a whole number", id="Python's digits"),
        pytest.param("listenPort = \uff19\uff18", "full-width characters", id="full-width digits"),
        pytest.param("listenPort = 9876\uff0c", "full-width characters", id="full-width comma"),
        pytest.param("listenPort =", "listenPort is ''; write a whole", id="no value"),
        pytest.param("orderMessageEnable = yes", "'yes'; write true or false", id="no boolean"),
        pytest.param("kvConfigPath =", "kvConfigPath has no value; the default is ~", id="no text"),
        pytest.param("listenPort 9876", "no '='", id="no equals sign"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, complaint):
    path = write(tmp_path, f"# first\n{line}\n")

    with pytest.raises(ConfigError, match=rf"namesrv\.conf:2: .*{complaint}"):
        load(path)


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        pytest.param(
            "listenPrt = 1", "unknown key listenPrt, ignored. Did you mean listenPort?", id="typo"
        ),
        pytest.param(
            "zzz = 1", "unknown key zzz, ignored. List the keys with: mqnamesrv -p", id="unlike any"
        ),
        pytest.param(
            "serverWorkerThreads = 8",
            "serverWorkerThreads has no effect in this name server: one event loop",
            id="Java's threads",
        ),
    ],
)
def test_a_key_without_effect_is_warned_about(tmp_path, line, warning):
    path = write(tmp_path, f"listenPort = 1\n{line}\n")

    config, warnings = load(path)

    assert config.listen_port == 1
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}:2: {warning}")


def test_no_key_is_both_effective_and_inert():
    assert not set(INERT) & set(configuration.known_keys())
    assert all(INERT.values()), "each has its reason"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.conf: No such file.*Check the path after -c"):
        load(tmp_path / "nowhere.conf")


def test_a_file_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "gbk.conf"
    path.write_bytes("# 注释\n".encode("gbk"))

    with pytest.raises(ConfigError, match=r"gbk\.conf:1: byte 0x\w\w is not UTF-8"):
        load(path)


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        pytest.param("# c\na=1\nb=2\n", {"a": "9"}, "# c\na=9\nb=2\n", id="in its place"),
        pytest.param("a=1\n", {"b": "2"}, "a=1\nb=2\n", id="a new key at the end"),
        pytest.param("a = 1\na=2\n", {"a": "9"}, "a=9\n", id="a key that stood twice"),
        pytest.param("", {"a": "1"}, "a=1\n", id="an empty file"),
        pytest.param("#a=1\n", {"a": "2"}, "#a=1\na=2\n", id="comments are no keys"),
        pytest.param("ab=1\n", {"a": "2"}, "ab=1\na=2\n", id="a longer key is another key"),
    ],
)
def test_rewrite_keeps_what_it_does_not_change(text, changes, wanted):
    assert rewrite(text, changes) == wanted
