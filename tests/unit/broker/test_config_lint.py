"""Mistakes that guides make or provoke, as far as the file alone shows them."""

from pathlib import Path

import pytest

from ledgermq.broker.config_lint import ports_of

from .config_files import GROUP, SERVERS, load, read_plain, short


def warnings_of(tmp_path: Path, text: str) -> list[str]:
    """Of a plain broker that has no problem."""
    reading = read_plain(tmp_path, text)
    assert reading.problems == []
    return short(tmp_path, reading.warnings)


def problems_of(tmp_path: Path, text: str) -> list[str]:
    return short(tmp_path, read_plain(tmp_path, text).problems)


# --- characters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("listenPort=109１1", "'１' for '1'. Type the ASCII", id="digit"),  # noqa: RUF001
        pytest.param("fileReservedTime=4８", "'８' for '8'", id="digit of a time"),  # noqa: RUF001
        pytest.param("deleteWhen=04；16", "full-width character '；'", id="；"),  # noqa: RUF001
        pytest.param("namesrvAddr=a:1，b:1", "full-width character '，'", id="，"),  # noqa: RUF001
        pytest.param("namesrvAddr=a：1", "full-width character '：'", id="："),  # noqa: RUF001
        pytest.param("traceOn=ｔrue", "'ｔ' for 't'", id="letter"),  # noqa: RUF001
        pytest.param("listenPort=10911\u3000x", "'\\u3000' for ' '", id="blank"),
        pytest.param("brokerIP1=10.0.0。1", "not an IP address", id="full stop"),
        pytest.param("listenPort=109 11", "'109 11', not a whole number", id="ASCII blank"),
        pytest.param("namesrvAddr=a:1; b:1", "holds a blank", id="blank in a list"),
        pytest.param("listenPort=10911 # ours", "give it a line of its own", id="comment"),
        pytest.param("listenPort=10911\t// ours", "give it a line of its own", id="// comment"),
        pytest.param("brokerIP1=10.0.0.1 #mine", "give it a line of its own", id="comment, no gap"),
        pytest.param("fileReservedTime=48小时", "Write digits only. It counts hours", id="unit"),
        pytest.param("brokerIP1=my-host", "not an IP address. Write the one", id="host name"),
    ],
)
def test_values_that_cannot_be_read_say_why(tmp_path: Path, line: str, says: str) -> None:
    key = line.partition("=")[0]
    [problem] = problems_of(tmp_path, f"\n{line}\n")
    assert problem.startswith(f"broker.conf:2: {key} ")
    assert says in problem


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param("brokerName=a，b", "all of it counts. It holds full-width", id="name"),  # noqa: RUF001
        pytest.param("storePathRootDir=/s：t", "full-width characters: '：' for ':'", id="path"),  # noqa: RUF001
        pytest.param("abortFile=/s # mine", "A comment cannot follow a value", id="comment"),
        pytest.param("brokerClusterName=C # mine", "A comment cannot follow", id="cluster"),
        pytest.param("brokerClusterName=my cluster", "taken as one name", id="blank"),
        pytest.param("regionId=a;b", "taken as one name", id="list"),
        pytest.param("brokerName=broker-a|broker-b", "It is taken as one name", id="|"),
        pytest.param("brokerName=broker-a (broker-b, broker-c, etc.)", "or a comment?", id="(…)"),
    ],
)
def test_texts_that_are_hardly_meant_warn_and_count(tmp_path: Path, line: str, says: str) -> None:
    key, _, value = line.partition("=")
    reading = read_plain(tmp_path, f"\n{line}\n")
    [warning] = short(tmp_path, reading.warnings)
    assert warning.startswith(f"broker.conf:2: {key} is {value!r}, ")
    assert says in warning
    if key == "brokerName":
        assert reading.config.broker_name == value


@pytest.mark.parametrize(
    "line",
    [
        "storePathRootDir=/数据/a 存储",
        "storePathRootDir=/a#b",
        "brokerName=经纪人-1",
        "brokerName=broker.a_1",
    ],
)
def test_texts_that_are_fine(tmp_path: Path, line: str) -> None:
    assert warnings_of(tmp_path, line) == []


def test_lines_that_are_no_settings_are_told_with_the_rest(tmp_path: Path) -> None:
    text = "listenPort＝10911\nbrokerRole=X\n= 1\n"  # noqa: RUF001
    found = problems_of(tmp_path, text)
    assert [p.partition(" ")[0] for p in found] == [
        "broker.conf:1:",
        "broker.conf:3:",
        "broker.conf:2:",
    ]
    assert "has no '='" in found[0]
    assert found[0].endswith("＝ is no '='")  # noqa: RUF001


# --- units ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("fileReservedTime=7", "7 is 7 hours, less than a day. For 7 days write 168",
                     id="few"),
        pytest.param("# keep 48 days\nfileReservedTime=48",
                     "48 is 2 days. For 48 days write 1152", id="days in the comment"),
        pytest.param("# 文件保留时间 48天\nfileReservedTime=48",
                     "48 is 2 days. For 48 days write 1152", id="天"),
        pytest.param("# one\n# 30 DAYS\n#\nfileReservedTime=30",
                     "30 is 1.25 days. For 30 days write 720", id="comment of several lines"),
    ],
)  # fmt: skip
def test_hours_taken_for_days(tmp_path: Path, text: str, says: str) -> None:
    line = text.count("\n") + 1
    [warning] = warnings_of(tmp_path, text)
    assert warning == f"broker.conf:{line}: fileReservedTime counts hours: {says}"


@pytest.mark.parametrize(
    "text",
    [
        "fileReservedTime=48",
        "fileReservedTime=24",
        "# 文件保留时间，默认 48 小时\nfileReservedTime=48",  # noqa: RUF001
        "# 48 hours\nfileReservedTime=48",
        "# 7 days\n\nfileReservedTime=72",
        "# 7 days\ndeleteWhen=04\nfileReservedTime=72",
        "",
    ],
)
def test_hours_that_are_hours(tmp_path: Path, text: str) -> None:
    assert warnings_of(tmp_path, text) == []


def test_entries_taken_for_bytes(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, "mapedFileSizeConsumeQueue=300000") == [
        "broker.conf:1: mapedFileSizeConsumeQueue counts bytes: 300000 is 15,000 entries of 20"
        " bytes, not 300,000. For 300,000 entries write 6000000"
    ]
    assert warnings_of(tmp_path, "mapedFileSizeConsumeQueue=6000000") == []


# --- ports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("listenPort=10911\nhaListenPort=10911",
                     "listenPort is 10911, the port of haListenPort (broker.conf:2)", id="HA"),
        pytest.param("listenPort=10911\nhaListenPort=10909",
                     "listenPort - 2 (VIP) is 10909, the port of haListenPort", id="VIP and HA"),
        pytest.param("listenPort=9878\nnamesrvAddr=localhost:9876",
                     "listenPort - 2 (VIP) is 9876, the port of the name server", id="name server"),
        pytest.param("listenPort=9876\nnamesrvAddr=10.0.0.7:9876",
                     "listenPort is 9876, the port of the name server", id="at this address"),
    ],
)  # fmt: skip
def test_ports_that_clash(tmp_path: Path, text: str, says: str) -> None:
    [problem] = problems_of(tmp_path, text)
    assert problem.startswith(f"broker.conf:1: {says}")
    assert problem.endswith("Change one of them")


def test_a_name_server_elsewhere_may_have_the_same_port(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "listenPort=9876\nnamesrvAddr=10.0.0.8:9876") == []


def test_the_ports_of_each_kind(tmp_path: Path) -> None:
    plain = read_plain(tmp_path, "listenPort=20911").config
    assert sorted(ports_of(plain).values()) == [20909, 20911]
    group, _ = load(tmp_path, "listenPort=20911\nhaListenPort=20911", SERVERS)
    assert sorted(ports_of(group).values()) == [20909, 20911, 40911]


def test_a_port_of_another_peer_on_the_same_host(tmp_path: Path) -> None:
    text = "listenPort=40912\n" + "".join(f"{k}={v}\n" for k, v in GROUP.items())
    [problem] = problems_of(tmp_path, text)
    assert "listenPort is 40912, the port that dLegerPeers gives n1 (broker.conf:4)" in problem
