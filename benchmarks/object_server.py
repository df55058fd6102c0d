"""Object storage on this machine, as slow and unreliable as one wants: for tests and measurements.

`moto_server` is S3 (moto's imitation of it); `FolderServer` gives the files of a folder, as a web
server does; `FaultyProxy` stands before either and adds the latency, errors and throttling of
`Faults`.
"""

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}
_XML = "<Error><Code>{}</Code><Message>{}</Message></Error>"
_ANSWERS = {
    "error": (500, _XML.format("InternalError", "injected")),
    "throttled": (503, _XML.format("SlowDown", "Please reduce your request rate.")),
    "limited": (429, _XML.format("TooManyRequests", "injected")),
    "refused": (403, _XML.format("InvalidAccessKeyId", "The key does not exist in our records.")),
}


@dataclass
class Faults:
    """What happens to requests; each number is a probability, and a request has one fault at most.

    latency: Seconds before each answer.
    error, throttled, limited, refused: Answers 500, 503 SlowDown, 429 and 403.
    reset: The connection breaks before the answer. cut: In the middle of it.
    damaged: A byte of a content of 64 or more is another one.
    """

    latency: float = 0.0
    error: float = 0.0
    throttled: float = 0.0
    limited: float = 0.0
    refused: float = 0.0
    reset: float = 0.0
    cut: float = 0.0
    damaged: float = 0.0

    KINDS = ("error", "throttled", "limited", "refused", "reset", "cut", "damaged")


class FaultyProxy:
    """Forwards requests to `port` of this machine; `url` is its own address.

    counts: Of requests by method, and of faults by kind.
    """

    def __init__(self, port: int, faults: Faults, seed: int = 0) -> None:
        self.port, self.faults = port, faults
        self.counts: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        handler = type("Handler", (_ProxyHandler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self, method: str) -> str:
        """What is to happen to the next request; "" for nothing."""
        with self._lock:
            self.counts[method] += 1
            drawn = self._random.random()
            for kind in Faults.KINDS:
                drawn -= getattr(self.faults, kind)
                if drawn < 0:
                    self.counts[kind] += 1
                    return kind
            return ""

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class FolderServer:
    """Gives the files of a folder, and ranges of them; `port` is its own."""

    def __init__(self, folder: Path) -> None:
        handler = type("Handler", (_FolderHandler,), {"folder": folder.resolve()})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> "FolderServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def moto_server(bucket: str) -> Iterator[int]:
    """S3 with one empty bucket, in memory; gives its port. Raises ImportError without moto."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        port = int(server.get_host_and_port()[1])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", f"/{bucket}", headers={"Authorization": _SIGNED})
        answer = connection.getresponse()
        if answer.status != 200:
            raise OSError(f"moto made no bucket: {answer.status} {answer.read()[:200]!r}")
        connection.close()
        yield port
    finally:
        server.stop()


_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none."""


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultyProxy

    def setup(self) -> None:
        super().setup()
        self.upstream = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=60)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault(self.command)
        time.sleep(self.proxy.faults.latency)
        if fault == "reset":
            return self._reset()
        if fault in _ANSWERS:
            status, text = _ANSWERS[fault]
            return self._answer(status, {"Content-Type": "application/xml"}, text.encode())
        self.upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = self.upstream.getresponse()
        content = answer.read()
        headers = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
        if fault == "damaged" and len(content) >= 64 and self.command == "GET":
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        self._answer(answer.status, headers, content, cut=fault == "cut")
        return None

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = forward  # noqa: N815

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, cut: bool = False
    ) -> None:
        self.send_response(status)
        length = headers.get("Content-Length") or headers.get("content-length")
        headers = {k: v for k, v in headers.items() if k.lower() != "content-length"}
        for name, value in headers.items():
            self.send_header(name, value)
        head = self.command == "HEAD"
        self.send_header("Content-Length", (length or "0") if head else str(len(content)))
        self.end_headers()
        if cut:
            self.wfile.write(content[: len(content) // 2])
            self._reset()
        elif not head:
            self.wfile.write(content)

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _FolderHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path

    def do_GET(self) -> None:
        file = (self.folder / self.path.lstrip("/")).resolve()
        if not file.is_file() or not file.is_relative_to(self.folder):
            self.send_response(404)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        size = file.stat().st_size
        first, stop = 0, size
        wanted = self.headers.get("Range")
        if wanted:
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            first, stop = int(begin), min(int(end) + 1 if end else size, size)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(stop - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{size:x}-{file.stat().st_mtime_ns:x}"')
        self.send_header("Last-Modified", self.date_time_string(int(file.stat().st_mtime)))
        self.end_headers()
        if self.command == "GET":
            with open(file, "rb") as opened:
                opened.seek(first)
                self.wfile.write(opened.read(stop - first))
        return None

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass
