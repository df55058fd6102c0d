"""Texts and bytes of a dataset inside HTML: they can end no element, and begin none."""

import base64
import json
from typing import Any


def safe_json(value: Any) -> str:
    """JSON in ASCII without `<`, `>` and `&`, whatever its texts hold."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def data_element(name: str, data: bytes) -> str:
    """Bytes as an element that browsers keep and do not run; name: letters, digits and "-"."""
    text = base64.b64encode(data).decode()
    return f'<script type="text/plain" id="{name}">{text}</script>\n'
