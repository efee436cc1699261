"""Everything one member keeps on disk, opened and closed together."""

from contextlib import ExitStack
from pathlib import Path

from .hard_state import HardState
from .identity import StoreIdentity
from .ledger import Ledger
from .recovery import open_ledger


class MemberStore:
    """Identity, term and vote, and the recovered log.

    Attributes:
        store_id: random, made with the store.
    """

    def __init__(
        self,
        folder: Path,
        data_folder: Path | None,
        *,
        group: str,
        self_id: str,
        segment_bytes: int,
    ) -> None:
        """Open or create below `folder`; log files in `data_folder` when given.

        Raises:
            CallerError: another node's, in use, or made with another segment size.
            DamagedError: bytes that were durable are not what was written.
        """
        with ExitStack() as opened:
            self._identity = StoreIdentity(
                folder,
                group=group,
                self_id=self_id,
                segment_bytes=segment_bytes,
                data_folder=data_folder,
            )
            opened.callback(self._identity.close)
            self.hard_state = HardState(folder)
            opened.callback(self.hard_state.close)
            self.ledger: Ledger = open_ledger(folder, segment_bytes, data_folder)
            opened.pop_all()
        self.store_id = self._identity.store_id

    def close(self, commit: int | None) -> None:
        """Close everything; `commit` None: the node had to stop, so nothing more is promised."""
        try:
            if commit is None:
                self.ledger.abandon()
            else:
                self.ledger.drop_staged()
                self.ledger.close(commit)
        finally:
            self.hard_state.close()
            self._identity.close()
