"""A real browser for the tests: Chromium without a window, driven by its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]
PATIENCE = 30  # seconds for anything to happen


def chromium():
    """Path of the browser, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One page; `profile` is a fresh folder. Use as a context."""

    def __init__(self, profile: Path):
        self.profile = profile
        self.numbers = itertools.count(1)
        self.events = []
        self.open_things = contextlib.ExitStack()

    def __enter__(self):
        from websockets.sync.client import connect

        command = [chromium(), *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file = self.profile / "DevToolsActivePort"
        until(lambda: port_file.exists() and len(port_file.read_text().split()) == 2)
        port, path = port_file.read_text().split()
        address = f"ws://127.0.0.1:{port}{path}"
        self.socket = self.open_things.enter_context(connect(address, max_size=None, proxy=None))
        self.session = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=page, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        self.open_things.close()
        self.process.terminate()
        self.process.wait(PATIENCE)

    def send(self, method, **params):
        """The answer of the browser to one command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def open(self, path, address=""):
        """Load a file and wait until its first episode is shown."""
        self.events.clear()
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=path.absolute().as_uri() + address)
        until(lambda: self.run("document.documentElement?.dataset.ready !== undefined"))

    def run(self, expression):
        """The value of a JavaScript expression."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, shift=False):
        """A key of the keyboard, down and up."""
        text = {"text": key} if len(key) == 1 else {}
        modifiers = 8 if shift else 0
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers, **text)

    def drag(self, start, stop):
        """The mouse from one point of the window to another, its button held."""
        for kind, (x, y) in (("Pressed", start), ("Moved", stop), ("Released", stop)):
            where = {"x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", **where)

    def resize(self, width, height, dark=False, scale=1):
        """The window's size, and the colours that its user prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def complaints(self):
        """Everything the page logged or threw since it was opened."""
        self.run("0")
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in kinds]

    def requests(self):
        """Addresses that the page asked for since it was opened, but for its own data."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        urls = [event["params"]["request"]["url"] for event in sent]
        return [url for url in urls if not url.startswith(("blob:", "about:"))]


def until(true, patience=PATIENCE):
    """Wait for something to become true; AssertionError where it does not."""
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
