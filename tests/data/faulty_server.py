"""An HTTP server on 127.0.0.1 that misbehaves in every way a download meets, and remembers what it sent.

Each request takes the next fault of `script`; when that is used up, the fault that its path names (``/stalls/file``), else it
is answered well. `body` and `etag` may change between requests.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = bytes(range(256)) * 20000  # 5.1 MB: several chunks
PAGE = b"<!DOCTYPE html><title>log in</title>" + b" " * 2000
BLOCK = 1 << 16
FAULTS = (
    "error-500",
    "busy-503",
    "reset",
    "short",
    "chunked-short",
    "stalls",
    "page",
    "hidden-page",
    "gzip",
    "circle",
    "ignores-range",
    "bad-content-range",
    "other-content-range",
    "bare-416",
    "changed",
    "wrong",
)


@dataclass
class Request:
    """One request as it was served."""

    path: str
    range: str | None
    if_range: str | None
    sent: int = 0  # bytes of the body given to the socket
    status: int = 0

    @property
    def start(self) -> int:
        """The first byte that was asked for."""
        return int(self.range.removeprefix("bytes=").split("-")[0]) if self.range else 0


class Server:
    """Serves `body` under any path; see the module's text."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[str] = []
        self.body, self.etag = BODY, '"one"'
        self.versioned = True  # whether it names a version
        self.pause = 0.0  # seconds between blocks
        self.stall_seconds = 0.5
        self.closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def setup(self) -> None:
                super().setup()
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BLOCK)  # what is counted as sent has left

            def do_GET(self) -> None:
                try:
                    outer.answer(self)
                except OSError:  # the client hung up
                    self.close_connection = True

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()

    def url(self, path: str = "good/file") -> str:
        return f"http://127.0.0.1:{self.http.server_port}/{path}"

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        named = handler.path.strip("/").split("/")[0]
        fault = self.script.pop(0) if self.script else named
        if fault == "changed":
            self.etag, self.body = f'"{len(self.requests)}"', bytes([len(self.requests) % 256]) * len(self.body)
        asked, since = handler.headers.get("Range"), handler.headers.get("If-Range")
        request = Request(handler.path, asked, since)
        self.requests.append(request)
        body = b"x" * len(self.body) if fault == "wrong" else self.body
        headers = {"ETag": self.etag} if self.versioned else {}
        ranged = bool(asked) and since in (None, self.etag) and fault != "ignores-range"
        start = request.start if ranged else 0
        status = 206 if ranged else 200
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if ranged and (start >= len(body) or fault == "bare-416"):
            status, headers = 416, {"Content-Range": f"bytes */{len(body)}"} if fault != "bare-416" else {}
            body, start = b"", 0
        elif ranged and fault == "bad-content-range":
            headers["Content-Range"] = "items all"
        elif ranged and fault == "other-content-range":
            headers["Content-Range"] = f"bytes {start + 1}-{len(body)}/{len(body) + 1}"
        if fault == "error-500":
            status, body, start = 500, b"no", 0
        elif fault == "busy-503":
            status, body, start, headers = 503, b"no", 0, {"Retry-After": "7"}
        elif fault == "missing":
            status, body, start = 404, b"no", 0
        elif fault in ("page", "hidden-page"):
            kind = "text/html" if fault == "page" else "application/octet-stream"
            status, body, start, headers = 200, PAGE, 0, {"Content-Type": kind}
        elif fault == "gzip":
            headers["Content-Encoding"] = "gzip"
        elif fault == "circle":
            status, body, start, headers = 302, b"", 0, {"Location": self.url("circle/file")}
        elif fault == "onwards":
            status, body, start, headers = 302, b"", 0, {"Location": self.url()}
        self.send(handler, request, status, headers, body[start:], fault)

    def send(
        self, handler: BaseHTTPRequestHandler, request: Request, status: int, headers: dict[str, str], rest: bytes, fault: str
    ) -> None:
        request.status = status
        handler.send_response(status)
        chunked = fault in ("chunked", "chunked-short")
        headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(rest))}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if fault in ("reset", "short", "chunked-short", "stalls"):
            rest = rest[: len(rest) // 2 + 1]
        for offset in range(0, len(rest), BLOCK):
            block = rest[offset : offset + BLOCK]
            request.sent += len(block)  # before the write: the client may have it all before we go on
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
            if self.pause and self.closing.wait(self.pause):
                return
        if fault == "chunked":
            handler.wfile.write(b"0\r\n\r\n")
        if fault == "stalls":
            self.closing.wait(self.stall_seconds)
        if fault == "reset":
            time.sleep(0.02)  # else the reset overtakes what was sent
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        if fault in ("reset", "short", "chunked-short", "stalls"):
            handler.close_connection = True
