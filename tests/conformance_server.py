"""A loopback server that speaks Ollama's API and OpenAI's, fails on request, and counts what it is asked.

Its text depends on the prompt, the seed and the number of tokens alone. It bounds its own concurrency as Ollama
does: a model that has to be loaded takes `max_queue` requests and turns the others away (503); a loaded one lets
any number wait for one of `n_parallel` slots.
"""

import hashlib
import json
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = ["the", "a", "river", "light", "stone", "garden", "morning", "quiet", "bird", "walks", "finds", "holds", "over"]
MODEL = "tiny:latest"
DIGEST = hashlib.sha256(b"tiny").hexdigest()
RUNNER_STOPPED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong with one reply."""

    kind: str
    """slow (before the first token), stall, eof, error_line, torn, reset (after some tokens), drop (before any
    byte), thinking, empty, flood (the message without end), status, page (the message as it is, whatever it is), or
    of OpenAI's API ended_close, ended_reset and ended_stall (after the reason to stop, before the count)."""
    after: int = 0
    delay_s: float = 0.0
    status: int = 500
    message: str | bytes = "it failed"
    headers: dict[str, str] = field(default_factory=dict)


def busy(retry_after: str | None = None) -> Fault:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    message = "server busy, please try again.  maximum pending requests exceeded"
    return Fault("status", status=503, message=message, headers=headers)


def tokens_of(prompt: str, seed: int, at_most: int) -> tuple[list[str], str]:
    """Return a reply's tokens and why it ends: sentences of a few words, five tokens to forty."""
    rng = random.Random(f"{prompt}|{seed}")
    tokens: list[str] = []
    for _ in range(rng.randint(1, 4)):
        words = [rng.choice(WORDS) for _ in range(rng.randint(4, 9))]
        tokens += [" " + words[0].capitalize(), *(f" {word}" for word in words[1:]), "."]
    tokens[0] = tokens[0].strip()
    return (tokens[:at_most], "length") if at_most < len(tokens) else (tokens, "stop")


class Gone(Exception):
    """The client closed the connection."""


@dataclass
class Conformance:
    """The server's knobs, and what it saw."""

    url: str = ""
    n_parallel: int = 4
    max_queue: int = 512
    load_delay_s: float = 0.0
    token_delay_s: float = 0.0
    http: str = "HTTP/1.1"
    models_status: int = 200
    models_delay_s: float = 0.0
    close: bool = False
    """Whether each connection ends with its first answer, which says so."""
    size_vram: int = 0
    capabilities: tuple[str, ...] = ("completion",)
    pages: dict[str, str | tuple[int, str]] = field(default_factory=dict)
    """By path: what is answered instead, with status 200 or another."""
    refuses: dict[str, str] = field(default_factory=dict)
    """By field of a request of OpenAI's API: what is said of it, with status 400."""
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    """By prompt, which is "" where the model is only to be loaded: the first is taken by the first request, and so
    on."""
    always: Fault | None = None
    fault_of: Callable[[str, int], Fault | None] = lambda prompt, nth: None
    """By prompt and how often it was asked before."""

    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    """Prompts whose reply was sent to its end."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    n_loads: int = 0
    n_cancelled: int = 0
    n_turned_away: int = 0
    at_work: int = 0
    most_at_work: int = 0
    most_open: int = 0

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.loading = threading.Lock()
        self.slots = threading.Semaphore(self.n_parallel)
        self.loaded: dict[str, Any] | None = None
        self.n_pending = 0
        self.n_open = 0
        self.closing = threading.Event()

    def take_fault(self, prompt: str) -> Fault | None:
        with self.lock:
            nth = self.asked[prompt]
            self.asked[prompt] += 1
            planned = self.faults.get(prompt)
            return planned.pop(0) if planned else self.fault_of(prompt, nth) or self.always


@contextmanager
def serve(**knobs: Any) -> Iterator[Conformance]:
    """Lend a server on a free port of the loopback."""
    state = Conformance(**knobs)
    handler = type("Bound", (Handler,), {"state": state, "protocol_version": state.http})

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: clients leave."""

    server = Server(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    state: Conformance
    counted = False
    wbufsize = 0
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    # What is asked

    def do_GET(self) -> None:
        answers: dict[str, Callable[[], Any]] = {
            "/api/version": lambda: {"version": "0.33.0"},
            "/api/tags": lambda: {"models": [self.described()]},
            "/api/ps": self.running,
            "/v1/models": lambda: {
                "object": "list",
                "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "x"}],
            },
        }
        if self.path == "/v1/models":
            self.pause(self.state.models_delay_s)
        if self.path == "/":
            self.send(200, b"Ollama is running", "text/plain")
        elif self.path in self.state.pages:
            self.page()
        elif self.path == "/v1/models" and self.state.models_status != 200:
            self.send_json(self.state.models_status, {"detail": "Internal Server Error"})
        elif self.path in answers:
            self.send_json(200, answers[self.path]())
        else:
            self.send(404, b"404 page not found", "text/plain")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        routes = {
            "/api/show": self.show,
            "/api/pull": self.pull,
            "/api/generate": self.generate,
            "/api/chat": self.generate,
            "/v1/chat/completions": self.complete,
            "/v1/completions": self.complete,
        }
        try:
            body = json.loads(content) if content else None
        except ValueError as error:
            return self.fail(400, str(error))
        if self.path in self.state.pages:
            return self.page()
        if self.path not in routes:
            return self.send(404, b"404 page not found", "text/plain")
        if body is None:
            return self.fail(400, "missing request body")
        with self.state.lock:
            self.state.bodies.append(body)
            self.state.keys.append(self.headers.get("Authorization") or "")
            self.counted = True
            self.state.n_open += 1
            self.state.most_open = max(self.state.most_open, self.state.n_open)
        try:
            routes[self.path](body)
        except (Gone, BrokenPipeError, ConnectionResetError):
            with self.state.lock:
                self.state.n_cancelled += 1
            self.close_connection = True
        finally:
            self.ending()
        return None

    def page(self) -> None:
        planned = self.state.pages[self.path]
        status, text = (200, planned) if isinstance(planned, str) else planned
        self.send(status, text.encode(), "text/html")

    def ending(self) -> None:
        """Count this request as over: before its last byte, for after that the client may send the next."""
        with self.state.lock:
            self.state.n_open -= self.counted
            self.counted = False

    def described(self) -> dict[str, Any]:
        details = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
                   "parameter_size": "1M", "quantization_level": "F16"}  # fmt: skip
        return {"name": MODEL, "model": MODEL, "modified_at": "2025-01-01T00:00:00Z", "size": 1000, "digest": DIGEST,
                "details": details}  # fmt: skip

    def running(self) -> dict[str, Any]:
        one = {
            **self.described(),
            "expires_at": "2035-01-01T00:00:00Z",
            "size_vram": self.state.size_vram,
            "context_length": 2048,
        }
        return {"models": [one] if self.state.loaded is not None else []}

    def has(self, body: dict[str, Any]) -> bool:
        name = body.get("model") or body.get("name") or ""
        if not name:
            self.fail(400, "model is required")
        elif (name if ":" in name else f"{name}:latest") != MODEL:
            self.fail(404, f"model '{name}' not found")
        else:
            return True
        return False

    def show(self, body: dict[str, Any]) -> None:
        if self.has(body):
            answer = {"modelfile": "", "parameters": "", "template": "", "details": self.described()["details"]}
            answer["model_info"] = {"general.architecture": "llama", "llama.context_length": 4096}
            answer |= {"capabilities": list(self.state.capabilities), "modified_at": "2025-01-01T00:00:00Z"}
            self.send_json(200, answer)

    def pull(self, body: dict[str, Any]) -> None:
        known = (body.get("model") or body.get("name")) in ("tiny", MODEL)
        end = {"status": "success"} if known else {"error": "pull model manifest: file does not exist"}
        if body.get("stream") is False:
            self.send_json(200 if known else 500, end)
            return
        self.start_stream("application/x-ndjson")
        for line in ({"status": "pulling manifest"}, end):
            self.write_line(line)
        self.end_stream()

    # Texts

    def generate(self, body: dict[str, Any]) -> None:
        chat = self.path == "/api/chat"
        if not self.has(body):
            return None
        options = body.get("options") or {}
        if not isinstance(options.get("seed", 0), int):
            return self.fail(500, 'option "seed" must be of type integer')
        prompt = body["messages"][-1]["content"] if chat else body.get("prompt") or ""
        started = time.monotonic()
        if not prompt:
            return self.only_load(options)
        fault = self.state.take_fault(prompt)
        if fault is not None and self.refused(fault, lambda message: {"error": message}):
            return None
        if not self.load(options):
            return self.fail(503, busy().message)
        loaded = time.monotonic()

        def wrap(text: str, thinking: str = "") -> dict[str, Any]:
            told = {"thinking": thinking} if thinking else {}
            if chat:
                return {"message": {"role": "assistant", "content": text, **told}}
            return {"response": text, **told}

        tokens, reason = self.said(prompt, options, body.get("format") or {})
        with self.slot():
            at_work = time.monotonic()
            base = {"model": MODEL, "created_at": "2025-01-01T00:00:00Z"}
            stream = body.get("stream") is not False
            sent: list[str] = []
            for text, thinking in self.played(tokens, fault):
                if not sent and stream:
                    self.start_stream("application/x-ndjson")
                sent.append(text)
                if stream:
                    self.write_line({**base, **wrap(text, thinking), "done": False})
            if fault is not None and self.broken_off(fault, "ndjson", bool(sent)):
                return None
            now = time.monotonic()
            counts = {
                "total_duration": int((now - started) * 1e9),
                "load_duration": int((loaded - started) * 1e9),
                "prompt_eval_count": len(prompt.split()),
                "prompt_eval_duration": 1000,
                "eval_count": len(sent),
                "eval_duration": int((now - at_work) * 1e9),
            }
            last = {**base, **wrap("" if stream else "".join(sent)), "done": True, "done_reason": reason}
            last |= {key: value for key, value in counts.items() if value}
            if stream:
                if not sent:
                    self.start_stream("application/x-ndjson")
                self.ending()
                self.write_line(last)
                self.end_stream()
            else:
                self.send_json(200, last)
        with self.state.lock:
            self.state.answered[prompt] += 1
        return None

    def only_load(self, options: dict[str, Any]) -> None:
        for fault in self.state.faults.get("", [])[:1]:
            self.state.faults[""].pop(0)
            return self.send_json(fault.status, {"error": fault.message}, fault.headers)
        self.load(options)
        loaded = {"model": MODEL, "created_at": "", "response": "", "done": True, "done_reason": "load"}
        return self.send_json(200, loaded)

    def said(self, prompt: str, options: dict[str, Any], schema: dict[str, Any]) -> tuple[list[str], str]:
        if "score" in schema.get("properties", {}):
            # as a model that is held to a schema: points for the words of the text that it judges
            return [json.dumps({"score": len(prompt.rpartition("Text:")[2].split()) % 6})], "stop"
        return tokens_of(prompt, options.get("seed", 0), options.get("num_predict", 1 << 30))

    def complete(self, body: dict[str, Any]) -> None:
        chat = self.path == "/v1/chat/completions"
        if body.get("model") not in ("tiny", MODEL):
            return self.fail(404, f"model '{body.get('model')}' not found", openai=True)
        for name, message in self.state.refuses.items():
            if name in body:
                return self.fail(400, message, openai=True)
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        fault = self.state.take_fault(prompt)
        if fault is not None and self.refused(fault, lambda message: {"error": {"message": message, "type": "x"}}):
            return None
        at_most = body.get("max_tokens") or body.get("max_completion_tokens") or 1 << 30
        tokens, reason = tokens_of(prompt, body.get("seed") or 0, at_most)
        base = {"id": "c-1", "created": 0, "model": MODEL, "object": "chat.completion" if chat else "text_completion"}
        usage = {"prompt_tokens": 1, "completion_tokens": len(tokens), "total_tokens": 1 + len(tokens)}
        with self.slot():
            if not body.get("stream"):
                text = "".join(text for text, _ in self.played(tokens, fault))
                says = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
                choice = {"index": 0, "finish_reason": reason, "logprobs": None, **says}
                return self.send_json(200, {**base, "choices": [choice], "usage": usage})
            kind = "chat.completion.chunk" if chat else "text_completion"

            def event(fields: dict[str, Any], finish: str | None = None) -> None:
                choice = {"index": 0, "finish_reason": finish, "logprobs": None, **fields}
                self.write_event({**base, "object": kind, "choices": [choice]})

            self.start_stream("text/event-stream")
            self.chunk(b": a comment to keep the line open\n\n")
            if chat:
                event({"delta": {"role": "assistant", "content": ""}})
            sent = 0
            for text, thinking in self.played(tokens, fault):
                delta = {"reasoning_content": thinking} if thinking else {"content": text}
                event({"delta": delta} if chat else {"text": text})
                sent += 1
            if fault is not None and self.broken_off(fault, "sse", True):
                return None
            self.ending()
            event({"delta": {}} if chat else {"text": ""}, reason)
            if fault is not None and fault.kind.startswith("ended_"):
                return self.stop_after_end(fault)
            if (body.get("stream_options") or {}).get("include_usage"):
                self.write_event({**base, "object": kind, "choices": [], "usage": {**usage, "completion_tokens": sent}})
            self.chunk(b"data: [DONE]\n\n")
            self.end_stream()
        with self.state.lock:
            self.state.answered[prompt] += 1
        return None

    def stop_after_end(self, fault: Fault) -> None:
        if fault.kind == "ended_reset":
            self.reset()
        if fault.kind == "ended_stall":
            self.pause(fault.delay_s)
        self.close_connection = True

    def played(self, tokens: list[str], fault: Fault | None) -> Iterator[tuple[str, str]]:
        """Yield texts and thoughts as they come, with the fault's delays, up to where it breaks off."""
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "slow":
            self.pause(fault.delay_s)
        while fault is not None and kind == "flood":
            yield fault.message, ""
        for n, token in enumerate(tokens):
            if fault is not None and kind in ("stall", "eof", "error_line", "torn", "reset") and n == fault.after:
                if kind == "stall":
                    self.pause(fault.delay_s)
                else:
                    return
            if kind == "empty":
                return
            self.pause(self.state.token_delay_s)
            yield ("", "hm") if kind == "thinking" else (token, "")

    def refused(self, fault: Fault, wrap: Callable[[str], Any]) -> bool:
        if fault.kind == "drop":
            self.ending()
            self.reset()
        elif fault.kind == "status":
            if fault.status == 503:
                self.state.n_turned_away += 1
            self.send_json(fault.status, wrap(fault.message), fault.headers)
        elif fault.kind == "page":
            page = fault.message if isinstance(fault.message, bytes) else fault.message.encode()
            self.send(fault.status, page, "text/html", fault.headers)
        return fault.kind in ("drop", "status", "page")

    def broken_off(self, fault: Fault, form: str, streaming: bool) -> bool:
        if fault.kind not in ("eof", "error_line", "torn", "reset"):
            return False
        self.ending()
        if not streaming:
            self.start_stream("application/x-ndjson")
        if fault.kind == "reset":
            self.reset()
            return True
        if fault.kind == "error_line":
            line = {"error": fault.message}
            self.write_line(line) if form == "ndjson" else self.write_event(line)
        if fault.kind == "torn":
            self.chunk(b'{"model":"tiny:latest","resp' if form == "ndjson" else b'data: {"id":"c-1","cho')
        self.end_stream()
        return True

    def load(self, options: dict[str, Any]) -> bool:
        """Load the model, or wait for it; whether there was room in the queue."""
        runner = {"num_ctx": options.get("num_ctx")}
        state = self.state
        with state.lock:
            if state.loaded == runner:
                return True
            if state.n_pending >= state.max_queue:
                state.n_turned_away += 1
                return False
            state.n_pending += 1
        try:
            with state.loading:
                if state.loaded != runner:
                    self.pause(state.load_delay_s)
                    state.n_loads += 1
                    state.loaded = runner
        finally:
            with state.lock:
                state.n_pending -= 1
        return True

    @contextmanager
    def slot(self) -> Iterator[None]:
        while not self.state.slots.acquire(timeout=0.005):
            self.look()
        try:
            with self.state.lock:
                self.state.at_work += 1
                self.state.most_at_work = max(self.state.most_at_work, self.state.at_work)
            yield
        finally:
            with self.state.lock:
                self.state.at_work -= 1
            self.state.slots.release()

    # The wire

    def look(self) -> None:
        """Notice that the client has left."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if self.state.closing.is_set() or (readable and self.connection.recv(1, socket.MSG_PEEK) == b""):
            raise Gone

    def pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.look()
            time.sleep(min(left, 0.002))

    def send(self, status: int, content: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        if self.state.close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.ending()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), "application/json", headers)

    def fail(self, status: int, message: str, *, openai: bool = False) -> None:
        error: Any = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
        self.send_json(status, {"error": error if openai else message})

    @property
    def chunked(self) -> bool:
        return self.state.http == "HTTP/1.1"

    def start_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if self.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, content: bytes) -> None:
        self.look()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content) if self.chunked else content)

    def write_line(self, value: Any) -> None:
        self.chunk(json.dumps(value).encode() + b"\n")

    def write_event(self, value: Any) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def end_stream(self) -> None:
        if self.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def reset(self) -> None:
        """End the connection with a reset instead of a farewell, after what was sent has arrived."""
        time.sleep(0.005)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        raise Gone
