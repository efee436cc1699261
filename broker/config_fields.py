"""The keys that a broker obeys, as one frozen class; docs/config.md is made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import config_values as v
from .config_service_keys import ServiceKeys
from .config_store_keys import StoreKeys


@dataclass(frozen=True, kw_only=True)
class BrokerConfig(StoreKeys, ServiceKeys):
    """All keys that a broker obeys; see docs/config.md, which is made from this class.

    Attributes:
        inert: keys that were set and change nothing in any broker, as written.
        sources: field name or such a key -> where it was set; what is not in it is a default.
    """

    inert: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def in_group(self) -> bool:
        """True for a node of a DLedger group, False for a broker on a plain commitlog."""
        return self.enable_dleger_commit_log

    @property
    def raft_address(self) -> v.Address:
        """Where this node listens for its peers."""
        return self.dleger_peers[self.dleger_self_id]

    @property
    def address(self) -> str:
        """`ip:port` that clients are told."""
        return f"{self.broker_ip1}:{self.listen_port}"

    @property
    def dledger_dir(self) -> Path:
        """`<root>/dledger-<self id>`: hard state, index and, by default, data."""
        return self.store_path_root_dir / f"dledger-{self.dleger_self_id}"

    @property
    def dledger_data_dir(self) -> Path:
        """Folder of the log's segments."""
        return self.store_path_dledger_commit_log or self.dledger_dir / "data"

    @property
    def commit_log_dir(self) -> Path:
        """Folder of a plain commitlog."""
        return self.store_path_commit_log or self.store_path_root_dir / "commitlog"

    @property
    def consume_queue_dir(self) -> Path:
        """Folder of the queue files."""
        return self.store_path_consume_queue or self.store_path_root_dir / "consumequeue"

    @property
    def index_dir(self) -> Path:
        """Folder of the index by key."""
        return self.store_path_index or self.store_path_root_dir / "index"

    @property
    def checkpoint_path(self) -> Path:
        """File that says up to when everything is on the disk."""
        return self.store_checkpoint or self.store_path_root_dir / "checkpoint"

    @property
    def abort_path(self) -> Path:
        """File that is there while the broker runs, and after a crash."""
        return self.abort_file or self.store_path_root_dir / "abort"

    @property
    def folders_on_disk(self) -> tuple[Path, ...]:
        """What fills a disk, and is there once the store is open: the root and the log."""
        log = self.dledger_data_dir if self.in_group else self.commit_log_dir
        return self.store_path_root_dir, log

    @property
    def follower_broker_id(self) -> int:
        """Broker id that this node registers with as a follower: n0 -> 1, n1 -> 2."""
        return int(self.dleger_self_id[1:]) + 1

    @property
    def sync_flush(self) -> bool:
        """True when an entry counts only after its fsync."""
        return self.flush_disk_type == "SYNC_FLUSH"
