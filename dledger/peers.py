"""All links of one member: two out to every peer, one listener."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from .ids import NodeId
from .raft.messages import Message
from .rpc import codec
from .rpc.codec import Channel, Frame, Hello
from .rpc.link import LinkServer, OutgoingLink


@dataclass(frozen=True, slots=True)
class PeerCallbacks:
    """What the shell wants to know."""

    on_frame: Callable[[NodeId, Frame], None]
    on_data_up: Callable[[NodeId], None]
    on_data_down: Callable[[NodeId], None]
    on_died: Callable[[NodeId], None]


class Peers:
    """Sends messages to members by id, and knows their client addresses."""

    def __init__(
        self,
        *,
        group: str,
        self_id: NodeId,
        store_id: str,
        boot_id: str,
        segment_bytes: int,
        address: str,
        members: dict[NodeId, tuple[str, int]],
        callbacks: PeerCallbacks,
    ) -> None:
        self._self_id = self_id
        self._members = members
        self._callbacks = callbacks
        self._hello = Hello(
            group=group,
            sender=self_id,
            receiver="",
            channel=0,
            boot_id=boot_id,
            store_id=store_id,
            segment_bytes=segment_bytes,
            address=address,
            members=";".join(sorted(members)),
        )
        self._control: dict[NodeId, OutgoingLink] = {}
        self._data: dict[NodeId, OutgoingLink] = {}
        # Where clients reach each member, as it said itself.
        self.addresses: dict[NodeId, str] = {self_id: address}
        self._server = LinkServer(
            check=self._check, answer=self._answer, on_frame=callbacks.on_frame
        )

    async def start(self, host: str) -> None:
        """Listen on the own port of the member list, then dial the others."""
        await self._server.start(host, self._members[self._self_id][1])
        for peer, address in self._members.items():
            if peer != self._self_id:
                self._dial(peer, address)

    def _dial(self, peer: NodeId, address: tuple[str, int]) -> None:
        def nothing() -> None:
            return None

        def heard(hello: Hello) -> None:
            self.addresses[peer] = hello.address

        def data_up(hello: Hello) -> None:
            heard(hello)
            self._callbacks.on_data_up(peer)

        hello = replace(self._hello, receiver=peer)
        self._control[peer] = OutgoingLink(
            address,
            replace(hello, channel=int(Channel.CONTROL)),
            on_up=heard,
            on_down=nothing,
            on_died=lambda: self._died(peer),
        )
        self._data[peer] = OutgoingLink(
            address,
            replace(hello, channel=int(Channel.DATA)),
            on_up=data_up,
            on_down=lambda: self._callbacks.on_data_down(peer),
            on_died=nothing,
        )
        self._control[peer].start()
        self._data[peer].start()

    def _died(self, peer: NodeId) -> None:
        """The process is gone; what it had sent and nobody has read yet must not look alive."""
        for channel in Channel:
            self._server.drop_peer(peer, channel)
        # An idle connection to a machine without power would stay open for ever.
        self._data[peer].hang_up()
        self._callbacks.on_died(peer)

    def send(self, peer: NodeId, message: Message) -> None:
        """Send on the control connection; lost when it is down."""
        self._control[peer].send(codec.encode_message(message), droppable=True)

    def send_push(self, peer: NodeId, message: Message, payload: bytes) -> None:
        """Send on the data connection; lost when it is down."""
        self._data[peer].send(codec.encode_message(message, payload))

    def hang_up(self, peer: NodeId) -> None:
        """Drop the data connection `peer` has dialled; it starts a new session."""
        self._server.drop_peer(peer, Channel.DATA)

    def _answer(self, hello: Hello) -> Hello:
        return replace(self._hello, receiver=hello.sender, channel=hello.channel)

    def _check(self, hello: Hello) -> str | None:
        """Why this caller is refused, or None."""
        mine = self._hello
        if hello.group != mine.group:
            return f"it is of group {hello.group!r}, this node of {mine.group!r} (dLegerGroup)"
        if hello.members != mine.members:
            return (
                f"{hello.sender} counts {hello.members} as members of the group, {self._self_id}"
                f" counts {mine.members}: make dLegerPeers the same on all nodes of the group, and"
                " restart them"
            )
        if hello.sender not in self._members or hello.sender == self._self_id:
            known = ";".join(sorted(self._members))
            return f"its id {hello.sender!r} is not another of this group's {known} (dLegerPeers)"
        if hello.receiver != self._self_id:
            return f"it takes this node, {self._self_id}, for {hello.receiver!r} (dLegerPeers)"
        if hello.segment_bytes != mine.segment_bytes:
            return (
                f"its log files have {hello.segment_bytes} bytes, this node's"
                f" {mine.segment_bytes} (mappedFileSizeCommitLog must be equal in the group)"
            )
        return None

    async def close(self) -> None:
        """Close every link."""
        links = (*self._control.values(), *self._data.values())
        await asyncio.gather(*(link.close() for link in links))
        await self._server.close()
