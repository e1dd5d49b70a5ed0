"""The OPTIMADE reference server with structures of the tests, which can be told to misbehave.

    python optimade_server.py PORT STRUCTURES.jsonl FAULTS.json

FAULTS.json is read at every request for structures: {} answers well; `{"from": N, "how": "500" | "429" | "html"}`
spoils the answers to requests number N and later, `"times"` so many of them.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ |= {
    "OPTIMADE_DATABASE_BACKEND": "mongomock",
    "OPTIMADE_INSERT_TEST_DATA": "false",
    "OPTIMADE_LOG_LEVEL": "error",
    "OPTIMADE_VALIDATE_API_RESPONSE": "false",  # malformed entries are to arrive
    "OPTIMADE_CONFIG_FILE": "/nonexistent",
}


def main(port: int, structures: Path, faults: Path) -> None:
    import uvicorn
    from optimade.server.main import app
    from starlette.responses import HTMLResponse, JSONResponse

    documents = [json.loads(line) for line in structures.read_text().splitlines()]
    for document in documents:
        document["last_modified"] = datetime(2024, 5, 17, tzinfo=UTC)
    app.state.entry_collections["structures"].insert(documents)
    # a setting is looked up on the web when it is validated
    app.state.config.__dict__["license"] = "https://spdx.org/licenses/CC-BY-4.0"
    count = 0

    @app.middleware("http")
    async def spoil(request: Any, call_next: Any) -> Any:
        nonlocal count
        if request.url.path == "/requests":
            return JSONResponse(count)
        if not request.url.path.endswith("/structures"):
            return await call_next(request)
        fault = json.loads(faults.read_text())
        count += 1
        if fault and fault["from"] <= count < fault["from"] + fault.get("times", 10**9):
            if fault["how"] == "html":
                return HTMLResponse("<html><body>Down for maintenance</body></html>")
            return JSONResponse({"errors": []}, int(fault["how"]), {"Retry-After": "0"})
        return await call_next(request)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
