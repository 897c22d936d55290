"""The compute process's end of the socket pair: requests in, replies out, in frames.

Blocking and single-threaded. Between two inner steps ``poll`` takes what has arrived without
waiting. When the node closes its end there is nobody left to answer: ParentGone ends the process.
"""

import socket

from skerry.protocol.compute import (
    Failed,
    Reply,
    Request,
    decode_request,
    encode_reply,
    frame_length,
)

_HEADER_BYTES = 4
_RECEIVE_BYTES = 2**16


class ParentGone(SystemExit):
    """The node's end is closed; ends the process quietly wherever it is raised."""

    def __init__(self) -> None:
        """Exit with success: this is how a node that went away looks from here."""
        super().__init__(0)


class Channel:
    """Frames over one connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        """Use ``connection``, which must be blocking."""
        self._connection = connection
        self._buffer = bytearray()

    def send(self, reply: Reply) -> None:
        """Send one reply. Raises: ParentGone."""
        try:
            self._connection.sendall(encode_reply(reply))
        except (BrokenPipeError, ConnectionResetError):
            raise ParentGone from None

    def receive(self) -> Request:
        """Wait for the next request.

        A frame that holds no request is answered with ``Failed`` of request 0 and skipped.
        Raises: ParentGone, ComputeError if a frame is too long to go on reading the stream.
        """
        while (request := self._next()) is None:
            self._fill(0)
        return request

    def poll(self) -> Request | None:
        """Return the next request if all of it is here. Raises: as receive."""
        while (request := self._next()) is None:
            try:
                self._fill(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        return request

    def _next(self) -> Request | None:
        while (body := self._body()) is not None:
            try:
                return decode_request(body)
            except ValueError as error:
                detail = f"not a request: {str(error)[:200]}"
                self.send(Failed(request=0, code="SK-CMP-002", detail=detail))
        return None

    def _body(self) -> bytes | None:
        if len(self._buffer) < _HEADER_BYTES:
            return None
        end = _HEADER_BYTES + frame_length(bytes(self._buffer[:_HEADER_BYTES]))
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_HEADER_BYTES:end])
        del self._buffer[:end]
        return body

    def _fill(self, flags: int) -> None:
        try:
            data = self._connection.recv(_RECEIVE_BYTES, flags)
        except ConnectionResetError:
            raise ParentGone from None
        if not data:
            raise ParentGone
        self._buffer += data
