"""Verdicts over HTTP: a picture in, JSON out; names of the KServe V2 protocol where it has one."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import io
import json
import queue
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import anyio
import jinja2
import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from PIL import Image
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect

import anogan_tf
from anogan_tf import metrics
from anogan_tf.data import encoded
from anogan_tf.data.images import Encoded
from anogan_tf.detector import Detector, Verdict
from anogan_tf.microbatches import MicroBatches

DECODERS = 4  # pictures decoded at once, as each may take a dozen bytes a pixel
GATHERING = 0.01  # seconds that the first of a batch waits for others
SHARE = 0.25  # of the time that an answer may take, which a batch takes at most
LEVELS = 65535  # of the PNG of a map
PICTURE = "picture"
DATATYPES = {"anomaly_score": "FP64", "p_value": "FP64", "prediction": "INT32", "decision": "BYTES"}
MAPPED_DATATYPES = {"regions": "BYTES", "map": "BYTES"}
NOT_THERE = "There is nothing of that kind at this path; /docs tells what there is."
ENCODED = {"type": "string", "format": "binary"}
BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": ENCODED},
        "multipart/form-data": {"schema": {"type": "object", "properties": {"file": ENCODED}, "required": ["file"]}},
    },
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes; more is refused.

    Attributes:
        body: Bytes of a request's body.
        pixels: Pixels of a picture, by its header.
        queue: Requests that are worked on or wait, and pictures that wait to be judged.
        seconds: Time to receive a request's body; time to answer it.
    """

    body: int = 32 * 2**20
    pixels: int = 25_000_000
    queue: int = 64
    seconds: float = 30.0


class Region(BaseModel):
    """A connected part of the map above the pixel threshold, in the picture's own pixels."""

    box: tuple[int, int, int, int] = Field(description="First row, first column, last row, last column.")
    area: int = Field(description="Pixels.")
    peak: float = Field(description="The largest value of the map.")
    peak_at: tuple[int, int] = Field(description="Its row and column.")
    level: float | None = Field(None, description="Of an alarm without such a part: what its strongest part exceeds.")


class Map(BaseModel):
    """The anomaly map in the picture's own pixels."""

    png: str = Field(description="A gray PNG of 16 bits, in base64.")
    white: float = Field(description="The map's value where the PNG is white; it is 0 where that is black.")


class Thresholds(BaseModel):
    suspicious: float = Field(description="A higher score is suspicious.")
    anomalous: float = Field(description="A higher score is anomalous.")
    pixel: float = Field(description="A higher value of the map belongs to a region.")


class Answer(BaseModel):
    """The verdict on a picture."""

    model: str
    fingerprint: str = Field(description="Of the run that decided.")
    anomaly_score: float = Field(description="Larger is more anomalous.")
    p_value: float = Field(description="The share of normal pictures that look at least as anomalous.")
    prediction: Literal[0, 1] = Field(description="1 above the threshold.")
    decision: Literal["normal", "suspicious", "anomalous"]
    height: int
    width: int
    regions: list[Region] | None = Field(description="Null where no map was made, see `map`.")
    map: Map | None = None
    thresholds: Thresholds


class Tensor(BaseModel):
    """Encoded pictures in base64, as the KServe V2 protocol has them."""

    name: Literal["picture"] = PICTURE
    shape: list[int] = Field(description="The number of pictures.", max_length=2)
    datatype: Literal["BYTES"] = "BYTES"
    data: list[str]


class Output(BaseModel):
    name: Literal["anomaly_score", "p_value", "prediction", "decision", "regions", "map"]


class Inference(BaseModel):
    """A request of the KServe V2 protocol."""

    id: str | None = None
    inputs: list[Tensor] = Field(min_length=1, max_length=1)
    outputs: list[Output] | None = Field(None, description="Default: all but regions and map.")


PAGE = jinja2.Environment(loader=jinja2.PackageLoader("anogan_tf"), autoescape=True, trim_blocks=True).get_template(
    "server.html"
)
INFERENCE_BODY = {"required": True, "content": {"application/json": {"schema": Inference.model_json_schema()}}}


class Service:
    """Judges what requests bring, within limits.

    Args:
        detector: What judges.
        limits: What is taken.
    """

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self.detector = detector
        self.limits = limits
        self.ready = False
        self._requests = 0

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Works until the server ends, and then finishes what it has begun."""
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder")
        self._batches = MicroBatches(
            self._judge,
            most=self.detector.chunk,
            seconds=GATHERING,
            length=self.limits.queue,
            longest=self.limits.seconds * SHARE,
        )
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            await anyio.to_thread.run_sync(self._batches.close)
            self._decoders.shutdown(cancel_futures=True)

    @contextlib.contextmanager
    def admitted(self) -> Iterator[None]:
        """Counts a request; one too many is refused."""
        if self._requests >= self.limits.queue:
            raise _busy()
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    async def body(self, request: Request) -> bytes:
        """The body of a request, or of the one file of its form."""
        request = Request(request.scope, _bounded(request.receive, self.limits.body))
        late = f"The body did not arrive within {self.limits.seconds:g} seconds."
        with _within(self.limits.seconds, 408, late):
            if not request.headers.get("content-type", "").lower().startswith("multipart/"):
                return await request.body()
            async with request.form(max_files=1, max_fields=8) as form:
                files = [value for value in form.values() if isinstance(value, UploadFile)]
                if not files:
                    raise HTTPException(400, "The form has no file: send one, as curl -F file=@picture.png does.")
                return await files[0].read()

    async def verdicts(self, contents: Sequence[bytes], mapped: bool) -> list[Verdict]:
        """The verdicts on encoded pictures."""
        late = f"There was no answer within {self.limits.seconds:g} seconds: the server is busy."
        with _within(self.limits.seconds, 503, late):
            rows = [await self._in_thread(self._read, *numbered) for numbered in _numbered(contents)]
            futures = []
            try:
                futures.extend(self._batches.submit((row, mapped)) for row in rows)
            except queue.Full:
                for future in futures:
                    future.cancel()
                raise _busy() from None
            return await asyncio.gather(*map(asyncio.wrap_future, futures))

    async def png(self, verdict: Verdict) -> tuple[bytes, float]:
        """The map of a verdict as `map_png` makes it."""
        pixel_threshold = self.detector.thresholds["pixel"]
        return await self._in_thread(map_png, verdict.anomaly_map, verdict.size, pixel_threshold)

    async def _in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._decoders, function, *arguments)

    def _read(self, content, which):
        if not content:
            raise HTTPException(400, f"{which}There is no picture: the body is empty.")
        picture = Encoded(content)
        try:
            encoded.check(picture, self.limits.pixels)
            return self.detector.read(picture)
        except encoded.TooLargeError as error:
            raise HTTPException(413, which + _sentence(error)) from None
        except ValueError as error:
            raise HTTPException(400, which + _sentence(error)) from None

    def _judge(self, items):
        """Verdicts on pairs of a row and whether it is to be mapped; what others ask for changes none of them."""
        verdicts = {}
        for mapped in (False, True):
            rows = {number: row for number, (row, asked) in enumerate(items) if asked == mapped}
            if rows:
                verdicts |= zip(rows, self.detector.judge(list(rows.values()), mapped=mapped), strict=True)
        return [verdicts[number] for number in range(len(items))]


def app(detector: Detector, limits: Limits | None = None) -> FastAPI:
    """The server of a detector, an ASGI application.

    Args:
        detector: What judges.
        limits: What is taken; None for the defaults.
    """
    limits = limits or Limits()
    service = Service(detector, limits)
    server = FastAPI(
        title=f"anogan_tf: {detector.name}",
        version=anogan_tf.__version__,
        description=f"Says of a picture how anomalous it is, whether that is too much, and where. Run {detector.name}, "
        f"fingerprint {detector.fingerprint}.",
        lifespan=service.lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    told = {"model": detector.name, "fingerprint": detector.fingerprint, "thresholds": detector.thresholds}

    def check_name(name: str) -> None:
        if name != detector.name:
            raise HTTPException(404, f"There is no model of that name here; there is {detector.name}.")

    @server.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("docs")

    @server.get("/docs", include_in_schema=False)
    async def page(request: Request) -> HTMLResponse:
        """What there is to ask for, and a place to try it; FastAPI's own page loads its scripts from elsewhere."""
        about = {"api": server.openapi(), "name": detector.name, "has_card": detector.card is not None}
        return HTMLResponse(PAGE.render(**about, address=str(request.base_url)))

    @server.post("/score", openapi_extra={"requestBody": BODY}, response_model_exclude_unset=True)
    async def score(request: Request, map: bool = False) -> Answer:
        """Judges a picture: the body is an image file, or a form with one.

        Where anomaly maps come of a search, as with most runs of a GAN alone, regions are made with `map=true` only.
        """
        if unknown := sorted(set(request.query_params) - {"map"}):
            raise HTTPException(400, f"There is no {unknown[0]} to ask for: /score takes map=true, or nothing.")
        with service.admitted():
            (verdict,) = await service.verdicts([await service.body(request)], map)
            values = {name: getattr(verdict, name) for name in DATATYPES}
            height, width = verdict.size
            answer = {**told, **values, "height": height, "width": width, "regions": verdict.regions}
            if map:
                png, white = await service.png(verdict)
                answer["map"] = {"png": base64.b64encode(png).decode(), "white": white}
            return Answer(**answer)

    @server.post(
        "/map",
        openapi_extra={"requestBody": BODY},
        response_class=Response,
        responses={200: {"content": {"image/png": {"schema": ENCODED}}}},
    )
    async def anomaly_map(request: Request) -> Response:
        """The anomaly map of a picture: a gray PNG of 16 bits, in the picture's own pixels.

        The header `Map-White` tells the value of white, `Map-Threshold` that above which a pixel belongs to a region.
        """
        with service.admitted():
            (verdict,) = await service.verdicts([await service.body(request)], True)
            png, white = await service.png(verdict)
            headers = {"Map-White": repr(white), "Map-Threshold": repr(detector.thresholds["pixel"])}
            return Response(png, media_type="image/png", headers=headers)

    @server.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        """What this server is."""
        return {"name": "anogan_tf", "version": anogan_tf.__version__, "extensions": []}

    @server.head("/v2/health/live", include_in_schema=False)
    @server.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Whether the server answers."""
        return {"live": True}

    @server.head("/v2/health/ready", include_in_schema=False)
    @server.get("/v2/health/ready")
    async def ready(response: Response) -> dict[str, bool]:
        """Whether pictures are judged; 503 where not."""
        response.status_code = 200 if service.ready else 503
        return {"ready": service.ready}

    @server.get("/v2/models/{name}/ready")
    async def model_ready(name: str, response: Response) -> dict[str, bool]:
        """The same, of a model by its name."""
        check_name(name)
        return await ready(response)

    @server.get("/v2/models/{name}")
    async def model_metadata(name: str) -> dict[str, Any]:
        """What the model takes and gives, with its thresholds."""
        check_name(name)
        return {
            "name": name,
            "versions": [detector.fingerprint],
            "platform": "anogan_tf",
            "inputs": [{"name": PICTURE, "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": output, "datatype": datatype, "shape": [-1]}
                for output, datatype in (DATATYPES | MAPPED_DATATYPES).items()
            ],
            "parameters": {"thresholds": detector.thresholds, **dataclasses.asdict(limits)},
        }

    @server.get("/v2/models/{name}/card", response_class=PlainTextResponse)
    async def card(name: str) -> PlainTextResponse:
        """The model card, in Markdown."""
        check_name(name)
        if detector.card is None:
            raise HTTPException(404, f"{name} has no model card: its folder has no README.md.")
        return PlainTextResponse(detector.card, media_type="text/markdown")

    @server.post("/v2/models/{name}/infer", openapi_extra={"requestBody": INFERENCE_BODY})
    async def infer(name: str, request: Request) -> dict[str, Any]:
        """Judges several pictures, in base64, by the KServe V2 protocol."""
        check_name(name)
        with service.admitted():
            asked = _inference(await service.body(request))
            contents = _decoded(asked.inputs[0], limits.queue)
            names = [output.name for output in asked.outputs] if asked.outputs is not None else list(DATATYPES)
            mapped = bool({"regions", "map"} & set(names))
            verdicts = await service.verdicts(contents, mapped)
            outputs = []
            for output in names:
                if output == "map":
                    data = [base64.b64encode((await service.png(verdict))[0]).decode() for verdict in verdicts]
                elif output == "regions":
                    data = [json.dumps(verdict.regions) for verdict in verdicts]
                else:
                    data = [getattr(verdict, output) for verdict in verdicts]
                datatype = (DATATYPES | MAPPED_DATATYPES)[output]
                outputs.append({"name": output, "datatype": datatype, "shape": [len(data)], "data": data})
            identity = {} if asked.id is None else {"id": asked.id}
            return {"model_name": name, "model_version": detector.fingerprint, **identity, "outputs": outputs}

    @server.exception_handler(AnyHTTPException)
    async def refused(_: Request, error: AnyHTTPException) -> JSONResponse:
        sentence = NOT_THERE if error.detail in ("Not Found", "Method Not Allowed") else str(error.detail)
        return JSONResponse({"error": sentence}, error.status_code, error.headers)

    @server.exception_handler(RequestValidationError)
    async def not_valid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _first(error.errors())}, 400)

    @server.exception_handler(ClientDisconnect)
    async def left(*_: Any) -> Response:
        return Response(status_code=400)  # which nobody reads

    @server.exception_handler(Exception)
    async def failed(*_: Any) -> JSONResponse:
        return JSONResponse({"error": "The picture could not be judged; the server has written down why."}, 500)

    return server


def map_png(anomaly_map: np.ndarray, size: tuple[int, int], pixel_threshold: float) -> tuple[bytes, float]:
    """A map as a gray PNG of 16 bits, and the value that is white: its peak, or twice the threshold if that is higher.

    Args:
        anomaly_map: `(map_height, map_width)`.
        size: `(height, width)` of the PNG.
        pixel_threshold: What the map exceeds in regions.
    """
    anomaly_map = metrics.resize_map(anomaly_map, size)
    white = float(max(anomaly_map.max(), 2 * pixel_threshold)) or 1.0
    levels = np.rint(anomaly_map.clip(0) * (LEVELS / white)).astype(np.uint16)
    content = io.BytesIO()
    Image.fromarray(levels).save(content, "png")
    return content.getvalue(), white


def _bounded(receive: Callable[[], Awaitable[Any]], most: int) -> Callable[[], Awaitable[Any]]:
    """Messages of a request until its body is too large; what follows is let pass, so that the sender can listen."""
    left = most

    async def bounded():
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left >= 0:
            return message
        while message.get("more_body"):
            message = await receive()
        raise HTTPException(413, f"The body is larger than the {most} bytes that are taken.")

    return bounded


@contextlib.contextmanager
def _within(seconds, status, sentence):
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError:
        raise HTTPException(status, sentence, {"Retry-After": "1"}) from None


def _numbered(contents):
    """Pairs of each of the pictures and what tells which of several it is."""
    several = len(contents) > 1
    return [(each, f"Picture {n} of {len(contents)}. " * several) for n, each in enumerate(contents, 1)]


def _busy():
    return HTTPException(503, "Too many requests wait: send it again later.", {"Retry-After": "1"})


def _inference(content):
    try:
        return Inference.model_validate_json(content)
    except ValidationError as error:
        raise HTTPException(400, _first(error.errors())) from None


def _decoded(tensor, most):
    if not 0 < len(tensor.data) <= most:
        raise HTTPException(400, f"A request has 1 to {most} pictures; this one has {len(tensor.data)}.")
    if np.prod(tensor.shape, dtype=float) != len(tensor.data):
        raise HTTPException(400, f"The shape {tensor.shape} is not that of {len(tensor.data)} pictures.")
    try:
        return [base64.b64decode(text, validate=True) for text in tensor.data]
    except (binascii.Error, ValueError):
        raise HTTPException(400, "A picture is no base64.") from None


def _first(errors):
    """The first of pydantic's errors as a sentence."""
    where = ".".join(str(part) for part in errors[0]["loc"])
    return f"{where}: {errors[0]['msg']}." if where else f"{errors[0]['msg']}."


def _sentence(error):
    """An error about a picture as a sentence that begins with a capital letter."""
    text = " ".join(str(error).split())
    return text[:1].upper() + text[1:]
