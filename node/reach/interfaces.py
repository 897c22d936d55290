"""Which addresses are this machine's own, and not those of a router that maps a port to it."""

import socket

from skerry.node.net.multiaddrs import Ip


def is_own(ip: Ip) -> bool:
    """Say whether an interface of this machine has an address: only then can one bind to it."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True
