"""ledgermq: RocketMQ name server and DLedger broker groups, without the JVM."""

__version__ = "0.1.0"
