"""Answers to route requests, encoded once for all who ask.

A topic that is in a thousand groups has a route of 250 KB, and every client of it asks twice a
minute: to build that anew each time was what limited a name server (docs/scale.md).
"""

from .route_table import RouteTable

MAX_BYTES = 64 << 20


class RouteBodies:
    """Encoded routes, until something that a route shows has changed.

    Invariant: what `get` gives is what the table's route gives, encoded now.
    """

    def __init__(self, table: RouteTable, max_bytes: int = MAX_BYTES) -> None:
        """Nothing is encoded yet; `max_bytes` bounds what is kept."""
        self._table = table
        self._max_bytes = max_bytes
        self._changes = table.changes
        # Those asked for first go first.
        self._bodies: dict[tuple[str, str | None], bytes] = {}
        self._bytes = 0

    def get(self, topic: str, order_topic_conf: str | None = None) -> bytes | None:
        """The body of a topic's route, with this order configuration; None: unknown topic."""
        if self._changes != self._table.changes:
            self._changes = self._table.changes
            self._bodies.clear()
            self._bytes = 0
        key = (topic, order_topic_conf)
        body = self._bodies.get(key)
        return self._encoded(key) if body is None else body

    def _encoded(self, key: tuple[str, str | None]) -> bytes | None:
        topic, order_topic_conf = key
        route = self._table.route(topic)
        if route is None:
            return None
        route.order_topic_conf = order_topic_conf
        body = self._bodies[key] = route.encode()
        self._bytes += len(body)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._bodies.pop(next(iter(self._bodies))))
        return body
