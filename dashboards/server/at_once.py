"""What a server answers leaves at once, also where it is written in small pieces."""

from __future__ import annotations

import os
import socket

import psutil


def answer_at_once(port: int) -> None:
    """Let sockets that listen at a port of this process send at once whatever is written to them.

    Else a small piece waits until the one before is acknowledged, for which the other side may
    take 40 ms: so long each script of a page waited for its second piece. asyncio sees to it only
    where a socket names its protocol, and Streamlit's names none. What a socket accepts has its
    options.

    Parameters
    ----------
    port : int
        Where the process listens already.
    """
    for one in psutil.Process().net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.fd >= 0:
            with socket.socket(fileno=os.dup(one.fd)) as listening:
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
