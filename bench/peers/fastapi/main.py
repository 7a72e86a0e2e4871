"""The service that the guide describes: FastAPI under gunicorn with uvicorn's workers, stories cached in Redis.

Tuned as far as its own parts go: uvloop and httptools, hiredis, one pool for each worker, answers that are bytes from
Redis and are not read as JSON again, no middleware, no access log. PEER_ANSWERS is as the other peers have it: the
story is put into Redis at start, and every request reads it from there.
"""

import hashlib
import os
import re
import uuid
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from redis.asyncio import Redis

REDIS_URL = os.environ["REDIS_URL"]
ANSWERS = Path(os.environ["PEER_ANSWERS"])
TTL_SECONDS = 3600
WELL_FORMED = re.compile(r"[A-Za-z0-9\-_.:/+=@]{1,128}").fullmatch

REQUESTS = Counter("http_requests", "Requests answered", ["route", "status"])
LIVE_OK = REQUESTS.labels("/health/v2/live", "200")
STORY_OK = REQUESTS.labels("/api/v1/stories/generate", "200")
STORY_MISSED = REQUESTS.labels("/api/v1/stories/generate", "404")


class Wish(BaseModel):
    """What a story is asked for with."""

    model_config = ConfigDict(str_strip_whitespace=True)

    location: str = Field(min_length=1, max_length=200)
    style: str = "adventure"
    length: Literal["short", "medium", "long"] = "medium"
    language: str = "en"
    interests: list[str] = Field(default=[], max_length=8)
    variation: int = 0

    def key(self) -> str:
        parts = [self.location.lower(), self.style, self.length, self.language, str(self.variation)]
        return "story:" + hashlib.sha256("\0".join(parts + sorted(self.interests)).encode()).hexdigest()


def fields(name: str) -> dict[str, str]:
    """Field lines that the service sends; the server and the framework write some of them themselves."""
    lines = (line.split(": ", 1) for line in (ANSWERS / name).read_text().splitlines())
    return {name: value for name, value in lines if name.lower() not in ("server", "content-type")}


LIVE_FIELDS = fields("live.fields")
STORY_FIELDS = fields("story.fields")
WORKER_ID = LIVE_FIELDS.get("X-Worker-ID", "peer-0")
redis: Redis


@asynccontextmanager
async def lifespan(_: FastAPI):
    global redis
    redis = Redis.from_url(REDIS_URL, max_connections=100)
    key = Wish.model_validate_json((ANSWERS / "request.json").read_bytes()).key()
    await redis.set(key, (ANSWERS / "story.json").read_bytes(), ex=TTL_SECONDS)
    yield
    await redis.aclose()


app = FastAPI(lifespan=lifespan, openapi_url=None)


def request_id(request: Request) -> str:
    """The client's where it is well formed. Read here: FastAPI would check a parameter of its own for it."""
    sent = request.headers.get("x-request-id")
    return sent if sent and WELL_FORMED(sent) else uuid.uuid4().hex


@app.get("/health/v2/live")
async def live(request: Request) -> Response:
    LIVE_OK.inc()
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"
    body = f'{{"status":"alive","worker_id":"{WORKER_ID}","timestamp":"{now}"}}'
    headers = {"X-Request-ID": request_id(request), **LIVE_FIELDS}
    return Response(body, media_type="application/json", headers=headers)


@app.post("/api/v1/stories/generate")
async def generate(wish: Wish, request: Request) -> Response:
    headers = {"X-Request-ID": request_id(request)}
    story = await redis.get(wish.key())
    if story is None:
        STORY_MISSED.inc()
        return Response('{"title":"refused"}', 404, headers, "application/problem+json")
    STORY_OK.inc()
    return Response(story, media_type="application/json", headers={**headers, **STORY_FIELDS})


@app.get("/metrics")
async def metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
