"""Sets how the kernel chooses among the listening sockets of a running server: steer.py lot|cpu PID PORT.

lot: a classic BPF program that draws one of the sockets (SO_ATTACH_REUSEPORT_CBPF, socket(7)).
cpu: each socket wants the connections of one CPU (SO_INCOMING_CPU, which SO_REUSEPORT groups honour since Linux 6.2).

For measurements only. The sockets are reached by pidfd_getfd(2), which needs the right to trace the process.
"""

import ctypes
import os
import socket
import struct
import sys

SO_INCOMING_CPU, SO_ATTACH_REUSEPORT_CBPF = 49, 51
PIDFD_OPEN, PIDFD_GETFD = 434, 438  # the same numbers on every architecture
LISTENING = "0A"


def listening(port):
    """Inodes of the TCP sockets that listen on the port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            for line in lines.readlines()[1:]:
                words = line.split()
                if words[3] == LISTENING and int(words[1].rsplit(":", 1)[1], 16) == port:
                    found.add(words[9])
    return found


def sockets(pid, port):
    """Duplicates of these sockets, in the order in which the process made them."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = libc.syscall(PIDFD_OPEN, pid, 0)
    if pidfd < 0:
        sys.exit(f"pidfd_open: {os.strerror(ctypes.get_errno())}")
    wanted, found = listening(port), []
    for number in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
        try:
            inode = os.readlink(f"/proc/{pid}/fd/{number}").removeprefix("socket:[").removesuffix("]")
        except OSError:
            continue
        if inode in wanted:
            wanted.remove(inode)
            copy = libc.syscall(PIDFD_GETFD, pidfd, number, 0)
            if copy < 0:
                sys.exit(f"pidfd_getfd: {os.strerror(ctypes.get_errno())}")
            found.append(socket.socket(fileno=copy))
    if not found:
        sys.exit(f"process {pid} listens on no socket of port {port}")
    return found


def draw(group):
    """A = random; A %= number of sockets; return A (linux/filter.h; SKF_AD_OFF + SKF_AD_RANDOM)."""
    steps = [(0x20, -0x1000 + 56), (0x94, len(group)), (0x16, 0)]
    code = b"".join(struct.pack("HBBI", op, 0, 0, k & 0xFFFFFFFF) for op, k in steps)
    program = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("HP", len(steps), ctypes.addressof(program))
    group[0].setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, fprog)


def main():
    way, pid, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    group = sockets(pid, port)
    if way == "lot":
        draw(group)
    else:
        cpus = sorted(os.sched_getaffinity(pid))
        for at, each in enumerate(group):
            each.setsockopt(socket.SOL_SOCKET, SO_INCOMING_CPU, cpus[at % len(cpus)])


main()
