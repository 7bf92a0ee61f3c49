"""Leases: which process holds a run or a study, and whether that process still lives.

A lease names its holder (host, machine, process id, the process's start) and carries a heartbeat.
On the machine of the holder the process table is the truth: the lease of a dead process is void at
once, however fresh its heartbeat, and that of a living one holds however old it is (a laptop that
slept for an hour keeps its runs). On any other machine only the heartbeat can be judged: a lease
is void `LEASE_SECONDS` after the last one. Clocks of hosts that share a ledger must therefore
agree within a minute.

A run has one holder. A study may have several, each with a lease of its own, ``study:3/TOKEN``;
one that wants it for itself has ``study:3``.
"""

import functools
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import Connection, bindparam, delete, insert, select

from attnsearch.runs.ledger.schema import Lease

LEASE_SECONDS = 120.0
"""Age of the last heartbeat, in seconds, at which a foreign host's lease is void."""

HEARTBEAT_SECONDS = 15.0
"""How often, in seconds, a driver should call `Ledger.heartbeat`."""

# Built once: each claim and each record needs them.
_ALL = select(*Lease.__table__.columns)
_SOME = _ALL.where(Lease.resource.in_(bindparam("resources", expanding=True)))
_TAKEN = delete(Lease).where(Lease.resource == bindparam("resource"))
_TAKING = insert(Lease)
_GIVEN = delete(Lease).where(
    (Lease.resource == bindparam("resource")) | Lease.resource.startswith(bindparam("shares")),
    Lease.token == bindparam("token"),
)

# psutil derives the start of a process from the boot time, which moves when the clock is stepped.
_START_TOLERANCE = 2.0


@functools.cache
def machine_identity() -> str:
    """Name the space of process ids that this process lives in.

    Host names repeat (containers, cloned machines) and process ids repeat after a reboot, so the
    identity joins the host's name with the kernel's boot id and the process-id namespace where
    the system has them, else with the network card's address.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        parts = [boot, str(Path("/proc/self/ns/pid").readlink())]
    except OSError:  # another system than Linux, or one that hides them
        parts = [f"{uuid.getnode():x}"]
    return "/".join([socket.gethostname(), *parts])


@dataclass(frozen=True)
class Holder:
    """A process that can hold a lease.

    Args:
        host: The host's name, for messages.
        machine: The `machine_identity` of the process.
        pid: Its process id.
        process_started: When it started, in seconds since 1970.
    """

    host: str
    machine: str
    pid: int
    process_started: float

    @classmethod
    def current(cls) -> "Holder":
        """Describe this process."""
        pid = os.getpid()
        started = psutil.Process(pid).create_time()
        return cls(socket.gethostname(), machine_identity(), pid, started)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def alive(self) -> bool:
        """Return whether this process of the same machine still runs (a zombie does not)."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.process_started) > _START_TOLERANCE:
                return False  # the id was given to a new process
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return True


@dataclass(frozen=True)
class Held:
    """A lease as it stands in the ledger.

    Args:
        token: Names the `Ledger` object that holds it.
        holder: The process of that object.
        heartbeat: When it was last renewed, in seconds since 1970.
    """

    token: str
    holder: Holder
    heartbeat: float

    def void(self, now: float) -> bool:
        """Return whether it no longer holds at this time (seconds since 1970)."""
        if self.holder.machine == machine_identity():
            return not self.holder.alive()
        return now - self.heartbeat > LEASE_SECONDS


def shared_resource(resource: str) -> str:
    """Return what a lease is a share of: ``study:3`` for ``study:3/TOKEN``, else the same."""
    return resource.partition("/")[0]


def held(connection: Connection, *resources: str) -> dict[str, Held]:
    """Read the leases of these resources (of all, if none is named), void ones included."""
    query = (_SOME, {"resources": resources}) if resources else (_ALL,)
    leases = {}
    for row in connection.execute(*query):
        holder = Holder(row.host, row.machine, row.pid, row.process_started)
        leases[row.resource] = Held(row.token, holder, row.heartbeat)
    return leases


def acquire(
    connection: Connection, resource: str, token: str, holder: Holder, now: float
) -> Held | None:
    """Take a lease that is free or void, or renew one's own.

    Args:
        connection: A write transaction; no other process writes while it is open, so nothing
            comes between looking and taking.
        resource: What is leased, ``run:12`` for instance.
        token: Names who asks.
        holder: The process that asks.
        now: The time, in seconds since 1970.

    Returns:
        None if the lease is now held by `token`, else the living lease that stands in the way.
    """
    present = held(connection, resource).get(resource)
    if present is not None and present.token != token and not present.void(now):
        return present
    if present is not None:
        connection.execute(_TAKEN, {"resource": resource})
    values = {**vars(holder), "token": token, "heartbeat": now}
    connection.execute(_TAKING, {"resource": resource, **values})
    return None


def release(connection: Connection, resource: str, token: str) -> bool:
    """Give a lease back, or one's share of it; False if `token` did not hold it any more."""
    of = {"resource": resource, "shares": f"{resource}/", "token": token}
    return connection.execute(_GIVEN, of).rowcount > 0
