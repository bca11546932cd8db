"""A browser without a picture tube: viser's messages over its web socket, from Python."""

from __future__ import annotations

import threading
import time
from typing import Any

import cv2
import msgspec
import numpy as np
import viser
import zstandard
from websockets.sync.client import connect


class PageClient:
    """Opens the page, keeps what it is sent, and does what a hand would do.

    Args:
        aspect: width over height of the window.
    """

    def __init__(
        self, port: int, aspect: float = 1.0, origin: str | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.socket = connect(
            f"ws://127.0.0.1:{port}", subprotocols=[f"viser-v{viser.__version__}"], max_size=None, origin=origin,
            additional_headers={"Host": f"{host}:{port}"} if host != "127.0.0.1" else None,
        )  # fmt: skip
        self.width = round(400 * aspect)
        self.parts: dict[str, Any] = {}
        self.texts: dict[str, str] = {}
        self.pictures: list[bytes] = []
        self.files: dict[str, bytes] = {}
        self.open_files: dict[str, tuple[str, int, list[bytes]]] = {}
        self.splats: list[tuple[str, Any]] = []
        self.notes: list[str] = []
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()
        self.look()

    def listen(self) -> None:
        try:
            for data in self.socket:
                size = int.from_bytes(data[8:16], "little")
                window = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + size]))
                with self.news:
                    for message in window["messages"]:
                        self.heard(message)
                    self.news.notify_all()
        except Exception:  # closed; tests see that nothing comes any more
            return

    def heard(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "BackgroundImageMessage" and message["rgb_data"] is not None:
            self.pictures.append(message["rgb_data"])
        elif kind.startswith("Gui") and "props" in message:
            self.parts[message["uuid"]] = message
        elif kind == "GuiUpdateMessage":
            self.parts[message["uuid"]]["props"] |= message["updates"]
        elif kind == "NotificationShowMessage":
            self.notes.append(message["props"]["body"])
        elif kind == "FileTransferStartDownload":
            self.open_files[message["transfer_uuid"]] = (message["filename"], message["part_count"], [])
        elif kind == "FileTransferPart":
            name, count, got = self.open_files[message["transfer_uuid"]]
            got.append(message["content"])
            if len(got) == count:
                self.files[name] = b"".join(got)
        elif kind in ("GaussianSplatsMessage", "SceneNodeUpdateMessage", "RemoveSceneNodeMessage"):
            self.splats.append((kind, message["name"]))

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(msgspec.msgpack.encode({"type": kind, **fields}))

    def look(self, position=(0.0, 0.0, 100.0), wxyz=(0.0, 1.0, 0.0, 0.0), fov: float = 0.35) -> None:
        """Move the camera; the default one looks along -z, y up."""
        self.send(
            "ViewerCameraMessage", wxyz=wxyz, position=position, fov=fov, near=0.1, far=1000.0, image_height=400,
            image_width=self.width, look_at=(0.0, 0.0, 0.0), up_direction=(0.0, 1.0, 0.0),
        )  # fmt: skip

    def part(self, label: str) -> str:
        """Id of a part of the panel, once it is there."""

        def there() -> str | None:
            return next((k for k, m in self.parts.items() if m["props"].get("label") == label), None)

        self.wait(lambda: there() is not None)
        found = there()
        assert found is not None
        return found

    def set(self, label: str, value: Any) -> None:
        self.send("GuiUpdateMessage", uuid=self.part(label), updates={"value": value})

    def press(self, label: str) -> None:
        self.set(label, True)

    def labels(self) -> list[str]:
        return [m["props"]["label"] for m in self.parts.values() if m["props"].get("label")]

    def wait(self, seen, seconds: float = 60.0) -> None:
        with self.news:
            assert self.news.wait_for(seen, seconds), "the page did not answer"

    def picture(self, after: int) -> np.ndarray:
        """The newest picture, once there are more than ``after``."""
        self.wait(lambda: len(self.pictures) > after)
        return cv2.imdecode(np.frombuffer(self.pictures[-1], np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)

    def settled(self, quiet: float = 0.4) -> np.ndarray:
        """The newest picture, when no other comes."""
        self.picture(0)
        count = -1
        while count != len(self.pictures):
            count = len(self.pictures)
            time.sleep(quiet)
        return self.picture(0)

    def close(self) -> None:
        self.socket.close()
        self.thread.join(5)
