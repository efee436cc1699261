"""A broker.conf for a test."""

from pathlib import Path

from ledgermq.broker.config import BrokerConfig, Reading, load_config, read_config

FIXTURES = Path(__file__).parent / "fixtures"
ROOT = Path(__file__).parents[3]
GROUP = {
    "enableDLegerCommitLog": "true",
    "dLegerGroup": "G",
    "dLegerPeers": "n0-127.0.0.1:40911;n1-127.0.0.1:40912;n2-127.0.0.1:40913",
    "dLegerSelfId": "n0",
}
SERVERS = {"NAMESRV_ADDR": "a:1"}


def load(
    tmp_path: Path, text: str = "", env: dict[str, str] | None = None, **overrides: str
) -> tuple[BrokerConfig, list[str]]:
    """A group's configuration with `text` added; `overrides` come from the command line."""
    path = tmp_path / "broker.conf"
    path.write_text(text + "".join(f"\n{k}={v}" for k, v in GROUP.items() if k + "=" not in text))
    return load_config(path, overrides, env or {}, local_ip=lambda: "10.0.0.7")


def read_plain(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Reading:
    """A plain broker's file, read; a name server is set."""
    path = tmp_path / "broker.conf"
    path.write_text(text)
    return read_config(path, {}, {**SERVERS, **(env or {})}, local_ip=lambda: "10.0.0.7")


def short(tmp_path: Path, texts: list[str]) -> list[str]:
    """Without the folder of the test."""
    return [text.replace(f"{tmp_path}/", "") for text in texts]
