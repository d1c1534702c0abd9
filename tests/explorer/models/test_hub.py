"""Models of the hub, against a small hub of our own on the loopback address: which files are fetched, and what is said
when they cannot be had. Each command runs in a process of its own, as the hub's library reads its settings once."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
from huggingface_hub import errors

from explorer import ModelError
from explorer.models.hub import explained
from explorer.models.loading import EMBEDDED

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODES = {"gated": (403, "GatedRepo"), "missing": (404, "RepoNotFound"), "broken": (503, "")}
EMOJI = EMBEDDED / "emoji"


def listing() -> dict[str, Path]:
    """The embedded model as repositories lay themselves out: both variants, pickles, a checker that nobody needs."""
    files = {path.relative_to(EMOJI).as_posix(): path for path in EMOJI.rglob("*") if path.is_file()}
    weights = {name: path for name, path in files.items() if name.endswith(".safetensors")}
    files |= {name.replace(".safetensors", ".fp16.safetensors"): path for name, path in weights.items()}
    some = EMOJI / "model_index.json"
    more = ("unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors", "v1.ckpt", "README.md")
    return files | dict.fromkeys((*more, "unet/diffusion_pytorch_model.non_ema.safetensors"), some)


class Hub(http.server.BaseHTTPRequestHandler):
    files = listing()
    fetched: ClassVar[list[str]] = []

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        repo = re.match(r"/(?:api/models/)?owner/(\w+)", path)
        status, code = CODES.get(repo[1] if repo else "", (200, ""))
        content, headers = b"{}", {"X-Error-Code": code} if code else {}
        if status == 200 and path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in self.files]
            tree = [{"type": "file", "path": name, "size": each.stat().st_size, "oid": COMMIT}
                    for name, each in self.files.items()]  # fmt: skip
            about = {"id": "owner/model", "modelId": "owner/model", "sha": COMMIT, "siblings": siblings, "tags": []}
            content = json.dumps(tree if "/tree/" in path else about).encode()
        elif status == 200:
            name = path.partition("/resolve/")[2].partition("/")[2]
            if name in self.files:
                content = self.files[name].read_bytes()
                headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                if body:
                    self.fetched.append(name)
            else:
                status, headers = 404, {"X-Error-Code": "EntryNotFound"}
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture()
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.fetched.clear()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def load(endpoint: str, cache: Path, *models: str, offline: bool = False, dtype: str = "float32") -> list[str]:
    """What loading each model says: an error's message, or what was loaded."""
    code = (
        "import sys, json\n"
        "from explorer import ModelError, load_pipeline\n"
        "said = []\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n"
        "        pipe = load_pipeline(name, dtype=sys.argv[1])\n"
        "        said.append(f'loaded {type(pipe).__name__} {pipe.unet.dtype}')\n"
        "    except ModelError as error:\n"
        "        said.append(str(error))\n"
        "print(json.dumps(said))\n"
    )
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": str(int(offline)), "NO_PROXY": "*",
                "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, dtype, *models], capture_output=True, text=True, env=os.environ | settings
    )
    assert done.returncode == 0, done.stderr
    return [str(each) for each in json.loads(done.stdout.splitlines()[-1])]


CLOSED = "http://127.0.0.1:9"


def test_a_model_of_the_hub_from_the_first_fetch_to_the_cache_alone(hub: str, tmp_path: Path) -> None:
    """The hub in reach, then out of reach, then offline by wish: what is fetched, and what is said."""
    models = ("owner/model", "owner/gated", "owner/missing", "owner/broken")
    loaded, gated, missing, broken = load(hub, tmp_path, *models, dtype="float16")
    assert loaded == "loaded StableDiffusionPipeline torch.float16"
    assert {name for name in Hub.fetched if not name.endswith(".json")} == {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
    }
    assert f"access to owner/gated is restricted; accept its terms at {hub}/owner/gated" in gated
    assert "the hub has no public model owner/missing; check its spelling" in missing
    assert "the hub answered with status 503 for owner/broken; try again later" in broken

    again, unreached = load(CLOSED, tmp_path, "owner/model", "owner/other", dtype="float16")
    assert again == loaded
    assert unreached.startswith("cannot load owner/other: the hub cannot be reached (Connect")
    assert f"check the connection, the proxy and HF_ENDPOINT ({CLOSED})" in unreached

    for weights in tmp_path.rglob("unet/*.safetensors"):
        weights.unlink()
    incomplete, offline = load(CLOSED, tmp_path, "owner/model", "owner/other", offline=True, dtype="float16")
    for said, name in ((incomplete, "owner/model"), (offline, "owner/other")):
        assert f"HF_HUB_OFFLINE is set and not all files of {name} are in the cache" in said
    for said in (gated, missing, broken, unreached, incomplete, offline):
        assert "complete Stable Diffusion pipeline" not in said and "\n" not in said
    assert all("hf download owner/other" in said for said in (unreached, offline))


FAILURES: list[tuple[Exception, str]] = [
    (httpx2.ConnectTimeout("timed out"), "cannot be reached (ConnectTimeout: timed out)"),
    (httpx2.ProxyError("407 Proxy Authentication Required"), "cannot be reached (ProxyError"),
    (ConnectionResetError("Connection reset by peer"), "cannot be reached (ConnectionResetError"),
    (errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
    (OSError(28, "No space left on device"), "the disk of the cache"),
]


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(("error", "expected"), FAILURES, ids=lambda given: type(given).__name__)
def test_every_way_to_fail_is_told_by_its_cause(error: Exception, expected: str, wrapped: bool) -> None:
    """The libraries wrap what happened into errors of their own."""
    with pytest.raises(ModelError) as found, explained("owner/model"):
        if not wrapped:
            raise error
        try:
            raise error
        except Exception as cause:
            raise OSError("we could not connect") from cause
    assert expected in str(found.value) and "\n" not in str(found.value)


def test_what_is_no_trouble_of_the_hub_is_said_as_it_is() -> None:
    expected = r"cannot load model \(ValueError: strange\); check that it is a complete"
    with pytest.raises(ModelError, match=expected), explained("model"):
        raise ValueError("strange\nand long")
