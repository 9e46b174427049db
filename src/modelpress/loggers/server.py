"""The W&B server: which one it is, whether it answers, whether it knows us, and what is sent to it."""

from __future__ import annotations

import netrc
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from modelpress.errors import ModelPressError
from modelpress.loggers.artifacts import STAGE, Parent
from modelpress.loggers.offline import RECORDED, OfflineRun, beside

if TYPE_CHECKING:
    from wandb import Api

PUBLIC = ("api.forge.coreweave.com", "api.wandb.ai")  # both are wandb's public server
TIMEOUT_S = 10
KEPT = "Nothing was pushed, and nothing is lost: give the command again afterwards."


def address() -> str:
    """``WANDB_BASE_URL``, else what ``wandb login --host`` has saved, else the public server."""
    if given := os.environ.get("WANDB_BASE_URL"):
        return given.rstrip("/")
    import wandb

    return str(wandb.setup().settings.base_url)


def has_key(url: str) -> bool:
    """Whether ``WANDB_API_KEY``, an identity token or netrc holds a login for the server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(url).netloc
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
    entries = [known.authenticators(name) for name in (PUBLIC if host in PUBLIC else (host,))]
    return any(entry and entry[2] for entry in entries)


def reach(url: str, otherwise: str = KEPT) -> None:
    """Raise :class:`ModelPressError` within seconds if no server answers; wandb itself would try for long."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ModelPressError(f"WANDB_BASE_URL is {url!r}; allowed: an address such as https://wandb.example.org.")
    try:
        urlopen(Request(url, method="HEAD"), timeout=TIMEOUT_S).close()
    except HTTPError:
        return  # an answer all the same
    except (URLError, OSError, ValueError) as fault:
        why = getattr(fault, "reason", fault)
        raise ModelPressError(
            f"The W&B server {url} cannot be reached ({why}). It must answer over http from this machine: see to the "
            f"network or its proxy, or name another server with WANDB_BASE_URL. {otherwise}"
        ) from fault


def login(url: str) -> Api:
    """The public API of a server that accepts our key."""
    if not has_key(url):
        raise ModelPressError(
            f"There is no login for the W&B server {url}: neither WANDB_API_KEY nor netrc has a key for it. "
            f"`wandb login --host {url}` saves one. {KEPT}"
        )
    import wandb

    try:
        api = wandb.Api(overrides={"base_url": url}, timeout=TIMEOUT_S)
        if api.default_entity is not None:
            return api
        why = "it names no user"
    except Exception as fault:  # wandb's own errors have many classes, some of them private
        why = str(fault)
    raise ModelPressError(
        f"The W&B server {url} does not accept the login ({why}). Allowed: a key that is valid there; "
        f"`wandb login --relogin --host {url}` saves another one, WANDB_API_KEY comes before it. {KEPT}"
    )


def push(runs: Sequence[OfflineRun], url: str) -> None:
    """``wandb sync``, which shows its own progress. It always returns 0: a run that has its mark was pushed."""
    files = [str(run.file) for run in runs]
    env = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    subprocess.run([sys.executable, "-m", "wandb", "sync", *files], env={**env, "WANDB_BASE_URL": url}, check=False)


def record(api: Api, run: OfflineRun) -> list[Parent]:
    """Declare the parents of a pushed run as its inputs; returns those that its project does not have."""
    project = f"{run.entity or api.settings['entity'] or api.default_entity}/{run.project}"
    pushed, missing = api.run(f"{project}/{run.id}"), []
    for parent in run.parents:
        path = f"{project}/{parent.name}:{parent.digest}"  # its digest is one of its aliases
        if api.artifact_exists(path, STAGE):
            pushed.use_artifact(api.artifact(path, STAGE))
        else:
            missing.append(parent)
    if not missing:
        beside(run.file, RECORDED).touch()
    return missing
