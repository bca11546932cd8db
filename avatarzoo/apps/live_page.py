"""The live picture as a web page for this machine's browsers: MJPEG over HTTP, from the standard library."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from avatarzoo.errors import OutputError

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")
BOUNDARY = "picture"
QUALITY = 85
WAIT_SECONDS = 1.0
"""A held picture is sent again so often, which also notices browsers that have gone."""
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>avatarzoo live</title>
<style>body{margin:0;background:#222;color:#ccc;font:14px sans-serif;text-align:center}
img{max-width:100vw;max-height:94vh}</style>
<img src="/stream" alt="the avatar"><div id="line"></div>
<script>setInterval(async()=>{try{const s=await(await fetch("/status")).json();
document.getElementById("line").textContent=s.line}catch(e){document.getElementById("line").textContent="ended"}},1000)
</script></html>"""


class PageSink:
    """Serves the newest picture at ``http://127.0.0.1:port``; pictures are encoded only while somebody looks.

    Args:
        port: 0 takes a free one. status: what ``/status`` answers as JSON.

    Raises:
        OutputError: the port is taken.
    """

    def __init__(self, port: int = 8000, status: Callable[[], dict[str, Any]] = dict) -> None:
        self.fresh = threading.Condition()
        self.picture: np.ndarray | None = None
        self.encoded: bytes | None = None
        self.number, self.ended, self.status = 0, False, status
        handler = type("PageHandler", (Handler,), {"page": self})
        try:
            self.server = ThreadingHTTPServer((ADDRESS, port), handler)
        except OSError as error:
            raise OutputError(
                f"Port {port} of this machine is taken ({error.strerror}); choose another with --port."
            ) from error
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, name="page", daemon=True)
        self.thread.start()
        self.url = f"http://{ADDRESS}:{self.server.server_address[1]}"

    def show(self, picture: np.ndarray, time: float) -> None:
        """uint8 RGB ``(H, W, 3)``."""
        with self.fresh:
            self.picture, self.encoded = picture, None
            self.number += 1
            self.fresh.notify_all()

    def jpeg(self) -> bytes:
        """The newest picture as JPEG, encoded while the loop goes on."""
        with self.fresh:
            picture, number, data = self.picture, self.number, self.encoded
        if data is None:
            assert picture is not None
            good, array = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            assert good
            data = array.tobytes()
            with self.fresh:
                if self.number == number:
                    self.encoded = data
        return data

    def close(self) -> None:
        with self.fresh:
            self.ended = True
            self.fresh.notify_all()
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers ``/``, ``/stream``, ``/picture.jpg`` and ``/status``."""

    page: PageSink

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in HOSTS:  # a stranger's web page that points its own name here must not see the camera
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        routes = {
            "/": lambda: self.answer("text/html; charset=utf-8", PAGE.encode()),
            "/status": lambda: self.answer("application/json", json.dumps(self.page.status()).encode()),
            "/picture.jpg": self.snapshot,
            "/stream": self.stream,
        }
        route = routes.get(self.path.split("?")[0])
        if route is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            route()
        except (BrokenPipeError, ConnectionResetError):  # the browser has gone
            self.close_connection = True

    def answer(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def snapshot(self) -> None:
        if self.page.picture is None:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "no picture yet")
        else:
            self.answer("image/jpeg", self.page.jpeg())

    def stream(self) -> None:
        """New pictures as they come; a held one again every second."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        page, number = self.page, 0
        while not page.ended:
            with page.fresh:
                page.fresh.wait_for(lambda n=number: page.ended or page.number > n, WAIT_SECONDS)
                number = page.number
            if page.picture is not None:
                data = page.jpeg()
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the live line."""
