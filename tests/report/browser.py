"""A page in a headless browser, asked with a script of one's own."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def ask(page: str, script: str, folder: Path, width: int = 1280) -> object:
    """What a script, the body of a function, returns in the page in a frame of some width, as JSON."""
    assert BROWSER is not None
    asking = f"<script>parent.postMessage(JSON.stringify((() => {{ {script} }})()), '*')</script></body>"
    inside = html.escape(page.replace("</body>", asking))
    host = f"""<!DOCTYPE html><body><iframe width="{width}" height="900" style="border: 0" srcdoc="{inside}"></iframe>
        <script>addEventListener("message", (event) => {{
            const answer = document.createElement("pre");
            answer.textContent = event.data;
            document.body.replaceChildren(answer);
        }});</script></body>"""
    path = folder / "host.html"
    path.write_text(host, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [BROWSER, *options, profile, path.as_uri()]
    told = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=True).stdout
    found = re.search(r"<pre>(.*?)</pre>", told, re.DOTALL)
    assert found is not None, told[-500:]
    return json.loads(html.unescape(found[1]))
