"""What speaks against a member's vote after a start, from what is found on its disk."""

from pathlib import Path

from ledgermq.dledger.ids import NONE, Standing

from .hard_state import HardState
from .identity import StoreIdentity
from .ledger import Ledger
from .life import LifeFile, SuspectFile

# The worse one counts when two things are found. What was lost is at most a tail; an empty store
# may have held everything.
_RANK = (Standing.MEMBER, Standing.LOST, Standing.EMPTY, Standing.DAMAGED)
_REMEMBERED = {
    Standing.MEMBER: "",
    Standing.EMPTY: "its store was made anew, and no leader has filled it yet",
    Standing.LOST: "its log may lack entries it had acknowledged, since an earlier start",
    Standing.DAMAGED: "its store was found damaged at an earlier start",
}
Finding = tuple[Standing, str]


def worst(findings: list[Finding]) -> Finding:
    """The one that counts; of equals the first."""
    return max(findings, key=lambda f: _RANK.index(f[0]), default=(Standing.MEMBER, ""))


def of_hard_state(
    folder: Path, state: HardState, identity: StoreIdentity, ledger: Ledger
) -> list[Finding]:
    """A store without term and vote is new, or one of Java's, or has lost them."""
    if state.present:
        return [(state.standing, _REMEMBERED[state.standing])]
    if state.damage is not None:
        return [(Standing.DAMAGED, f"term and vote are unknown: {state.damage}")]
    if _is_empty(ledger):
        return [(Standing.EMPTY, _REMEMBERED[Standing.EMPTY])]
    if identity.found:
        return [(Standing.DAMAGED, f"{folder / 'hardstate'} is gone")]
    return []


def of_log(folder: Path, state: HardState, ledger: Ledger) -> list[Finding]:
    """What was found broken in it, and whether anybody knows what it should hold."""
    found: list[Finding] = []
    if ledger.damage is not None:
        found.append((ledger.standing_hint, str(ledger.damage)))
    if ledger.marks.damage is not None:
        found.append((Standing.LOST, str(ledger.marks.damage)))
    elif _is_ours(state) and not ledger.marks.found:
        gone = Standing.DAMAGED if _is_empty(ledger) else Standing.LOST
        found.append((gone, f"{folder / 'mark'} is gone"))
    return found


def of_past(folder: Path, state: HardState, life: LifeFile, boot_id: str) -> list[Finding]:
    """How the run before this one may have ended."""
    if life.damage is not None:
        return [(Standing.LOST, str(life.damage))]
    if _is_ours(state) and not life.present:
        return [(Standing.LOST, f"{folder / 'life'} is gone")]
    if not life.sync_flush and life.may_have_lost_power(boot_id):
        return [(Standing.LOST, "with ASYNC_FLUSH the machine went down while this node ran")]
    return []


def of_suspicion(suspect: SuspectFile, identity: StoreIdentity, *, alone: bool) -> list[Finding]:
    """What was noted by the run before this one, and a store whose owner is unknown.

    A node that is alone has nobody to ask: for it counts what can still be found broken now.
    """
    found: list[Finding] = []
    if suspect.text and not alone:
        found.append((Standing.DAMAGED, suspect.text))
    if identity.damage is not None:
        found.append((Standing.DAMAGED, str(identity.damage)))
    return found


def _is_empty(ledger: Ledger) -> bool:
    return ledger.end_index == NONE and not ledger.untidy


def _is_ours(state: HardState) -> bool:
    """Whether the store was opened before by a program that keeps all of these files."""
    return state.present and not state.earlier_form
