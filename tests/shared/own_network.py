"""Runs a command with the loopback of a network namespace of its own up, and with few local ports.

`unshare --net python3 own_network.py LOW HIGH COMMAND…`; the command keeps this process's number.
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS = 0x8914
IFF_UP = 1

low, high, *command = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as ports:
    ports.write(f"{low} {high}\n")
os.execvp(command[0], command)
