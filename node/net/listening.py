"""Ending a server without losing the connection that it is just accepting."""

import asyncio


async def close_server(server: asyncio.Server) -> None:
    """Accept nothing more, let what was accepted reach its handler, and close; never raises.

    What asyncio accepts in the very turn of the loop in which its server is closed is neither
    handled nor closed before Python 3.13 (CPython issue 109564): its descriptor would leak.
    """
    loop = server.get_loop()
    for listener in server.sockets:
        loop.remove_reader(listener.fileno())
    await asyncio.sleep(0)  # a turn, in which what was accepted before is handed on
    server.close()
