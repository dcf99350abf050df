"""A light loopback text-generation-inference: so many slots, a queue behind them, and a log of what each slot did when.

Options come as JSON in the first argument (see `Options`); the port goes to standard output. What befalls the n-th generation, how long
it takes and whether it fails, is drawn from the seed alone, so every client meets the same sequence. `GET /log` tells all of it.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Options:
    slots: int = 96  # generations at once
    queue: int = 32  # requests that may wait for a slot; one more is answered with 429 at once, as TGI does
    seconds: tuple[float, float] = (0.2, 2.0)  # a generation takes, drawn evenly
    stragglers: float = 0.0  # the share that takes ten times as long
    failures: float = 0.0  # the share that is answered 429 (at once) or 500 (after its time), half and half
    seed: int = 0
    model: str = "loopback/clinical-70b"
    keep_bodies: bool = False  # `GET /bodies` gives the chat requests as they came


@dataclass
class Server:
    options: Options
    log: list[dict[str, float]] = field(
        default_factory=list
    )  # of generations: when begun and ended, how long drawn, status
    bodies: list[bytes] = field(default_factory=list)
    refused: int = 0  # requests that met a full queue
    inside: int = 0  # requests that hold a slot or wait for one
    first: float | None = None  # when the first request about a note came

    def __post_init__(self) -> None:
        self.random = random.Random(self.options.seed)
        self.free = asyncio.Semaphore(self.options.slots)

    async def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        match method, path:
            case "POST", "/v1/chat/completions":
                return await self.chat(body)
            case "GET", "/health":
                return 200, ""
            case "GET", "/info":
                return 200, {
                    "model_id": self.options.model,
                    "model_sha": "0123456789abcdef0123456789abcdef01234567",
                    "max_concurrent_requests": self.options.slots + self.options.queue,
                    "max_input_tokens": 6144,
                    "max_total_tokens": 8192,
                    "max_client_batch_size": 4,
                    "router": "text-generation-router",
                    "version": "3.3.7",
                }
            case "GET", "/v1/models":
                return 200, {"object": "list", "data": [{"id": self.options.model, "object": "model"}]}
            case "GET", "/log":
                return 200, {"first": self.first, "refused": self.refused, "generations": self.log}
            case "GET", "/answered":
                return 200, {"answered": len(self.log)}
            case "GET", "/bodies":
                return 200, [json.loads(body) for body in self.bodies]
        return 404, {"error": "Not found", "error_type": "not_found"}

    async def chat(self, body: bytes) -> tuple[int, Any]:
        arrived = time.monotonic()
        request = json.loads(body)
        if (schema := (request.get("response_format") or {}).get("value")) is None:
            return 422, {"error": "response_format: missing field `value`", "error_type": "validation"}
        text = request["messages"][-1]["content"]
        if "pairs" not in schema.get("properties", {}):  # a client's test at start-up: no work
            return 200, completion(self.options.model, conforming(schema, text))
        self.first = self.first or arrived
        if self.options.keep_bodies:
            self.bodies.append(body)
        if self.inside >= self.options.slots + self.options.queue:
            self.refused += 1
            return 429, OVERLOADED
        drawn, fate = self.random.uniform(*self.options.seconds), self.random.random()
        if fate < self.options.failures / 2:
            return 429, OVERLOADED
        status = 500 if fate < self.options.failures else 200
        if self.random.random() < self.options.stragglers:
            drawn *= 10
        self.inside += 1
        try:
            async with self.free:
                begun = time.monotonic()
                await asyncio.sleep(drawn)
        finally:
            self.inside -= 1
        self.log.append({"begun": begun, "ended": time.monotonic(), "drawn": drawn, "status": status})
        if status == 500:
            return 500, {"error": "Incomplete generation", "error_type": "incomplete_generation"}
        return 200, completion(self.options.model, conforming(schema, text))


OVERLOADED = {"error": "Model is overloaded", "error_type": "overloaded"}


def completion(model: str, content: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": json.dumps(content)}
    return {
        "object": "chat.completion",
        "id": "",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": "3.3.7-native",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1200, "completion_tokens": 400, "total_tokens": 1600},
    }


def conforming(schema: dict[str, Any], text: str, name: str = "", n: int = 0, of: int = 1) -> Any:
    """A value that `schema` allows, the n-th of so many alike: evidence is quoted from `text`, a query is made of its words."""
    if "enum" in schema:
        return schema["enum"][n * len(schema["enum"]) // of]
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "object":
        return {key: conforming(each, text, key, n, of) for key, each in schema["properties"].items()}
    if schema.get("type") == "array":
        length = schema.get("maxItems", schema.get("minItems", 1))
        return [conforming(schema["items"], text, name, i, length) for i in range(length)]
    if schema.get("type") in ("integer", "number"):
        return 1
    # A note's lines are sentences, each with words of its own; the last ones are all passages, whatever stands above them.
    lines = text.rstrip().splitlines()
    line = lines[-1 - n % 4] if len(lines) > 4 else text.strip()
    return line if name == "evidence" else " ".join([*sorted(set(line.rstrip(".").split()), key=len)[-4:], str(n)])


async def serve(options: Options) -> None:
    server = Server(options)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:"), 0
                )
                status, answer = await server.answer(method, path, await reader.readexactly(length))
                content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % (status, len(content))
                    + content
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()

    listening = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=1024)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Options(**json.loads(sys.argv[1]))))
